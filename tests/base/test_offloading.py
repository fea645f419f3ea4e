"""Offloaded bases draw and learn what others do: diffusers' own hooks, on a stand-in for a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from PIL import Image

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base, describe_base, load_base, wrap
from perfusion_registry.base.offload_hooks import hooked
from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.base.offloading import without_hooks
from perfusion_registry.build import ConceptSources, build_concept, estimate_covariance
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.operations.build import BuildOptions
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.render import RenderRequest, render
from tests.cuda_stand_in import OnCuda, cuda_stand_in
from tests.sdxl import save_shallow_sdxl

CAPTIONS = ["a photo of a teddy", "a cat in the snow", "a teapot on a table", "a red boat at sea"]
FAST = TrainOptions(
    steps=2, batch=2, validate_every=2, validation_steps=2, validation_prompts=("a {} in the snow",),
    learning_rate_output=1.0, learning_rate_embedding=0.1, residual_rank=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(shared: Callable[..., Path], tiny_base_folder: Path) -> dict[str, Path]:
    return {"sd": tiny_base_folder, "sdxl": shared("shallow-sdxl", save_shallow_sdxl)}


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 160, 3), dtype=np.uint8)).save(path)
    return path


def loaded(folder: Path, device: str, offload: Offload | None = None, dtype: str = "float32") -> Base:
    return load_base(describe_base(str(folder)), device, dtype, dtype, offload)


def built(base: Base, photo: Path, options: TrainOptions = FAST) -> Artifact:
    covariance = estimate_covariance(base, CAPTIONS * 10)
    sources = ConceptSources("teddy", "1.0.0", "teddy", (photo,))
    artifact = build_concept(base, covariance, sources, options, RenderOptions(), digest="ab" * 32)
    return load_artifact(save_artifact(artifact))


def drawn(base: Base, artifact: Artifact, prompt: str, **more: Any) -> np.ndarray:
    gates = SettingSources(command={"teddy": Gate(key_lock="global", residual=1.0)})
    concept = {"teddy": Concept(artifact, "0" * 64, Gate())} if "*" in prompt else {}
    composition = compose(parse_prompt(prompt), concept, base, gates if concept else SettingSources())
    asked = {"seeds": (5,), "steps": 2, "guidance": 3.0, "width": 64, "height": 64, "scheduler": "euler"}
    request = RenderRequest(**asked | more)
    ((picture,)) = render(base, composition, request, {"teddy": artifact})
    return np.asarray(picture.image).astype(int)


def on_the_gpu(pipe: Any) -> set[str]:
    """The components that have a parameter there."""
    parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    return {name for name, part in parts.items() if any(isinstance(x, OnCuda) for x in part.parameters())}


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture(scope="module")
def here(folder: Path) -> Base:
    return loaded(folder, "cpu")


@pytest.fixture(scope="module")
def artifact(here: Base, photo: Path) -> Artifact:
    return built(here, photo)


PROMPTS = ["a teddy* in the snow", "a cat", "a teddy* at sea"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["model", "group"])
def test_an_offloaded_base_draws_what_one_in_memory_draws(
    folder: Path, here: Base, artifact: Artifact, how: Offload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without concepts in turn, so that each finds the layers where the other has left them."""
    with cuda_stand_in():
        there = loaded(folder, "cuda", how)
        assert there.device.type == "cuda"
        assert there.text_device.type == there.bank.W.device.type == "cpu"
        for prompt in PROMPTS:
            assert np.abs(drawn(there, artifact, prompt) - drawn(here, artifact, prompt)).max() <= 1
            assert on_the_gpu(there.pipe) == set()  # between pictures
        assert there.form == "packed"
        monkeypatch.setenv("PERF_FORM", "thin")
        assert np.abs(drawn(there, artifact, PROMPTS[0]) - drawn(here, artifact, PROMPTS[0])).max() <= 1
        assert on_the_gpu(there.pipe) == set()


@pytest.mark.slow
def test_an_offloaded_base_learns_what_one_in_memory_learns(
    folder: Path, here: Base, photo: Path, artifact: Artifact
) -> None:
    with cuda_stand_in():
        there = loaded(folder, "cuda", "model")
        learned = built(there, photo)
        picture = drawn(there, artifact, PROMPTS[0])  # with a denoiser that a training has left on the GPU
    assert learned.tensors.keys() == artifact.tensors.keys()
    for name, tensor in artifact.tensors.items():
        assert torch.allclose(learned.tensors[name].float(), tensor.float(), rtol=0.05, atol=0.05), name
    assert np.abs(picture - drawn(here, artifact, PROMPTS[0])).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["model", "group"])
def test_a_pipeline_that_a_program_has_offloaded_carries_concepts(
    folder: Path, here: Base, artifact: Artifact, how: Offload
) -> None:
    with cuda_stand_in():
        pipe = loaded(folder, "cpu").pipe
        if how == "model":
            pipe.enable_model_cpu_offload(device="cuda")
        else:
            pipe.enable_group_offload(torch.device("cuda"), offload_type="leaf_level")
        there = wrap(pipe, here.description)
        assert there.device.type == "cuda"
        assert there.bank.W.device.type == there.text_device.type == "cpu"
        for prompt in PROMPTS[:2]:
            assert np.abs(drawn(there, artifact, prompt) - drawn(here, artifact, prompt)).max() <= 1


def test_weights_that_are_away_between_calls_are_refused(folders: dict[str, Path]) -> None:
    pipe = loaded(folders["sd"], "cpu").pipe
    cpu_offload(pipe.unet, torch.device("cpu"))
    with pytest.raises(PerfError, match="weights are away between calls"):
        wrap(pipe)


def test_a_copy_of_a_layer_by_layer_text_encoder_is_one_of_its_own(folders: dict[str, Path]) -> None:
    """What is put into it counts, and the pipeline's own neither computes nor moves."""
    with cuda_stand_in():
        own = loaded(folders["sd"], "cpu").pipe.text_encoder
        ids = torch.arange(8)[None]
        before = own(ids)[0]
        hooked(own, torch.device("cuda"), "group")
        copied = without_hooks(own, own)
        assert not any(hasattr(part, "_diffusers_hook") for part in copied.modules())
        assert torch.allclose(copied(ids)[0], before, atol=1e-6)
        with torch.no_grad():
            for weight in copied.parameters():
                weight.zero_()
        assert not copied(ids)[0].any()


def test_only_larger_pictures_than_the_bases_own_go_through_the_autoencoder_in_tiles(
    folders: dict[str, Path],
) -> None:
    with cuda_stand_in():
        there = loaded(folders["sd"], "cuda", "model")
        assert there.pipe.vae.use_tiling
        whole, tiled = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 16, 16)
        shown = [there.pictures(latents.to("cuda")).cpu() for latents in (whole, tiled)]
    here = loaded(folders["sd"], "cpu")
    assert torch.allclose(shown[0], here.pictures(whole), atol=1e-5)
    assert not torch.allclose(shown[1], here.pictures(tiled), atol=1e-5)
    here.pipe.vae.enable_tiling()
    assert torch.allclose(shown[1], here.pictures(tiled), atol=1e-5)


def test_an_autoencoder_that_overflows_in_fp16_is_offloaded_in_fp32(folders: dict[str, Path]) -> None:
    with cuda_stand_in():
        there: Any = loaded(folders["sdxl"], "cuda", "model", "float16")
        assert (there.pipe.vae.dtype, there.vae.dtype) == (torch.float16, torch.float32)
        image = there.pictures(torch.randn(1, 4, 8, 8).to("cuda"))
        assert image.device.type == "cuda"
        assert image.dtype == torch.float32


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda folder: loaded(folder, "cpu", "model"), "nothing to offload: the processor computes"),
        (lambda folder: ComputeOptions(offload="layers"), "'layers' is nothing that can be offloaded"),  # type: ignore[arg-type]
        (lambda folder: BuildOptions(compute=ComputeOptions(offload="group")), "gradients need all of them"),
    ],
)
def test_what_cannot_be_offloaded_is_refused(
    folders: dict[str, Path], asked: Callable[[Path], object], says: str
) -> None:
    with pytest.raises(PerfError, match=says) as raised:
        asked(folders["sd"])
    assert str(raised.value.where).startswith("--offload")
    assert raised.value.hint
