"""Controls, pictures to start from and adapters of an offloaded base: as on one that is in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from perfusion_registry.base import Adaptation, Applied, Base, Change, SaidOfBase, describe_base, load_base
from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.compose.concept import Concept
from perfusion_registry.operations.overrides import RenderOverrides
from perfusion_registry.recipe.base_section import BaseSection
from tests.controls import save_controlnet, save_ip_adapter
from tests.cuda_stand_in import OnCuda, cuda_stand_in
from tests.render.test_controls import drawn
from tests.render.test_controls import files as files

SMALL = {"width": 64, "height": 64}  # no larger than the base draws, so that nothing is tiled
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def said(loaded_tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> SaidOfBase:
    root, unet = tmp_path_factory.mktemp("controls"), loaded_tiny_base.pipe.unet
    save_controlnet(unet, root / "canny")
    save_ip_adapter(unet, root / "style.safetensors")
    return SaidOfBase(
        BaseSection(controls={"canny": "./canny", "style": "./style.safetensors"}), root, "perfusion.toml"
    )


def loaded(folder: Path, said: SaidOfBase, device: str, offload: Offload | None = None) -> Base:
    return load_base(describe_base(str(folder), said=said), device, "float32", "float32", offload)


@pytest.mark.parametrize("how", ["model", "group"])
def test_controls_and_starts_of_an_offloaded_base_are_those_of_one_in_memory(
    tiny_base_folder: Path,
    said: SaidOfBase,
    concepts: dict[str, Concept],
    files: dict[str, Path],
    how: Offload,
) -> None:
    """A ControlNet and an IP-Adapter beside a residual; then a start, by a pipeline of another class."""
    here, own = loaded(tiny_base_folder, said, "cpu"), {"hugsy": concepts["hugsy"]}
    both = RenderOverrides(controls={"canny": files["edges"], "style": files["photo"]})
    start = RenderOverrides(image=files["photo"], strength=0.7)
    with cuda_stand_in():
        there = loaded(tiny_base_folder, said, "cuda", how)
        for overrides in (both, start):
            (ours,), (theirs,) = (
                drawn(base, "a hugsy* in the snow", own, overrides.given(base.description), **SMALL)
                for base in (there, here)
            )
            assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
            assert not any(isinstance(x, OnCuda) for x in there.pipe.unet.parameters())


@pytest.mark.parametrize("how", ["model", "group"])
def test_adapters_go_where_the_layers_of_an_offloaded_base_are(
    tiny_base_folder: Path, said: SaidOfBase, how: Offload
) -> None:
    here = loaded(tiny_base_folder, said, "cpu")
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    width = here.denoiser.get_submodule(path).weight.shape[1]
    norm = Change(bias=torch.randn(here.denoiser.get_submodule("conv_norm_out").bias.shape))  # type: ignore[arg-type]
    changes = {path: Change(torch.randn(2, width), torch.randn(width, 2)), "conv_norm_out": norm}
    adaptation = Adaptation((Applied(changes, 0.5),))
    x, states = torch.randn(1, 4, 8, 8), here.encode([here.tokenise(["a cat"])])
    packed = states.with_states(states.states @ here.bank.W.T)

    def answer(base: Base, device: str) -> torch.Tensor:
        with torch.no_grad(), base.attached(adaptation=adaptation):
            return base.denoise(x.to(device), torch.tensor(500, device=device), packed).cpu()

    with cuda_stand_in():
        ours = answer(loaded(tiny_base_folder, said, "cuda", how), "cuda")
    assert torch.allclose(ours, answer(here, "cpu"), atol=1e-4)
