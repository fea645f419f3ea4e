"""What has to lie on the GPU lies there: SD and SDXL under a stand-in that refuses what CUDA refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.build import ConceptSources, build_concept, estimate_covariance
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.render import RenderRequest, render
from tests.cuda_stand_in import OnCuda, cuda_stand_in
from tests.sdxl import save_shallow_sdxl

CAPTIONS = ["a photo of a teddy", "a cat in the snow", "a teapot on a table", "a red boat at sea"]
FAST = TrainOptions(
    steps=2, batch=2, validate_every=2, validation_steps=2, validation_prompts=("a {} in the snow",),
    learning_rate_output=1.0, learning_rate_embedding=0.1, residual_rank=0.2,
)  # fmt: skip


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: there @ here.T,
        lambda here, there: there + here,
        lambda here, there: torch.cat([there, here]),
        lambda here, there: torch.nn.functional.linear(there, here),
        lambda here, there: here[torch.zeros(1, dtype=torch.long, device="cuda")],
        lambda here, there: here.add_(there),
        lambda here, there: there.numpy(),
        lambda here, there: torch.randn(2, device="cuda", generator=torch.Generator()),
    ],
)
def test_the_stand_in_refuses_what_cuda_refuses(mixed: Callable[[Any, Any], Any]) -> None:
    here = torch.ones(2, 3)
    with cuda_stand_in(), pytest.raises((RuntimeError, TypeError), match=r"device|cuda"):
        mixed(here, here.to("cuda"))


def test_the_stand_in_computes_and_differentiates_as_the_processor_does() -> None:
    x, layer = torch.arange(6.0).view(2, 3), torch.nn.Linear(3, 2)
    layer(x).square().sum().backward()
    expected = layer.weight.grad
    layer.zero_grad()
    with cuda_stand_in():
        layer.to("cuda")
        there = x.to("cuda")
        assert isinstance(layer.weight, torch.nn.Parameter)
        assert layer.weight.device == there.device == torch.device("cuda", 0)
        assert (there + torch.tensor(1.0)).device.type == there[torch.tensor([0])].device.type == "cuda"
        layer(there).cpu().square().sum().backward()
        assert isinstance(layer.weight.grad, OnCuda)
        assert expected is not None
        assert torch.equal(layer.weight.grad.cpu(), expected)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 160, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def folders(shared: Callable[..., Path], tiny_base_folder: Path) -> dict[str, Path]:
    return {"sd": tiny_base_folder, "sdxl": shared("shallow-sdxl", save_shallow_sdxl)}


def loaded(folder: Path, device: str, dtype: str) -> Base:
    return load_base(describe_base(str(folder)), device=device, dtype=dtype, compute_dtype=dtype)


def built(base: Base, photo: Path) -> Artifact:
    covariance = estimate_covariance(base, CAPTIONS * 10)
    sources = ConceptSources("teddy", "1.0.0", "teddy", (photo,))
    artifact = build_concept(base, covariance, sources, FAST, RenderOptions(), digest="ab" * 32)
    return load_artifact(save_artifact(artifact))


def drawn(base: Base, artifact: Artifact, lock: Literal["local", "global"]) -> np.ndarray:
    gates = SettingSources(command={"teddy": Gate(key_lock=lock, residual=1.0)})
    concept = {"teddy": Concept(artifact, "0" * 64, Gate())}
    composition = compose(parse_prompt("a teddy* in the snow"), concept, base, gates)
    how = RenderRequest(seeds=(5,), steps=2, guidance=3.0, width=64, height=64, scheduler="euler")
    ((picture,)) = render(base, composition, how, {"teddy": artifact})
    return np.asarray(picture.image).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "dtype", "apart"), [("sd", "float32", 0.05), ("sdxl", "bfloat16", 0.05)]
)
def test_on_a_gpu_a_concept_is_built_and_drawn_as_on_the_processor(
    folders: dict[str, Path], photo: Path, architecture: str, dtype: str, apart: float
) -> None:
    """Random numbers are the processor's on every device; only the order of sums differs here."""
    here = loaded(folders[architecture], "cpu", dtype)
    expected = built(here, photo)
    with cuda_stand_in():
        there = loaded(folders[architecture], "cuda", dtype)
        assert isinstance(there.bank.W, OnCuda)
        artifact = built(there, photo)
        picture = drawn(there, expected, "local")
        there.pipe.unet.conv_in.to("cpu")
        with pytest.raises(RuntimeError, match="same device"):
            drawn(there, expected, "local")
    assert artifact.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert torch.allclose(artifact.tensors[name].float(), tensor.float(), rtol=apart, atol=apart), name
    assert np.abs(picture - drawn(here, expected, "local")).max() <= 2
