"""Modules and their names from configurations alone, against diffusers' and transformers' own models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from perfusion_registry.adapters.modules import modules_of
from perfusion_registry.adapters.names import ModuleNames
from perfusion_registry.base.embedded import embedded_folder
from perfusion_registry.base.layouts import LAYOUTS
from perfusion_registry.errors import PerfError
from tests.adapters.samples import configuration, real_modules
from tests.sdxl import xl_unet
from tests.tiny import deeper_unet, tiny_unet

STORYBOOK = embedded_folder() / "unet"
LAYOUT_FOLDERS = {layout.called: layout.folder for layout in LAYOUTS}
UNETS: dict[str, dict[str, Any]] = {
    **{called: configuration(folder / "unet") for called, folder in LAYOUT_FOLDERS.items()},
    "Storybook": configuration(STORYBOOK),
    "tiny": dict(tiny_unet().config),
    "tiny and deeper": dict(deeper_unet().config),
    "tiny SDXL": dict(xl_unet().config),
    "lists for all": dict(
        xl_unet(
            layers_per_block=(1, 2, 3), only_cross_attention=(False, True, False), time_embedding_dim=40
        ).config
    ),
}


@pytest.mark.parametrize("called", UNETS)
def test_they_are_those_that_diffusers_makes(called: str) -> None:
    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(UNETS[called])
    real = {
        name.removesuffix(".weight"): tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if name.endswith(".weight")
    }
    assert modules_of({"unet": UNETS[called]}) == {"denoiser": real}


@pytest.mark.parametrize("called", LAYOUT_FOLDERS)
def test_they_are_those_that_transformers_makes(called: str) -> None:
    for component in ("text_encoder", "text_encoder_2"):
        folder = LAYOUT_FOLDERS[called] / component
        if not folder.is_dir():
            continue
        said = configuration(folder)
        kind: Any = CLIPTextModelWithProjection if "Projection" in said["architectures"][0] else CLIPTextModel
        with torch.device("meta"):
            model = kind(CLIPTextConfig(**said))
        real = {}
        for name, tensor in model.state_dict().items():
            path, _, last = name.rpartition(".")
            if last == "weight" and "embedding" not in path:
                inside = path.startswith(("text_model.", "text_projection"))
                real[path if inside else f"text_model.{path}"] = tuple(tensor.shape)
        assert modules_of({component: said}) == {component: real}


@pytest.mark.parametrize("called", ["Stable Diffusion 1", "Stable Diffusion 2", "SDXL"])
def test_compvis_names_are_those_that_diffusers_converts(called: str) -> None:
    """A checkpoint by our names becomes the very modules of the UNet."""
    unet = real_modules(called)["denoiser"]
    names = ModuleNames(real_modules(called))
    compvis = {path: names.compvis(path) for path in unet}
    assert all(compvis.values())
    assert len(set(compvis.values())) == len(unet)
    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(UNETS[called])
        dots = {_dotted(str(name)): torch.empty(unet[path]) for path, name in compvis.items()}
    checkpoint = {
        f"model.diffusion_model.{name}.{kind}": tensor
        for name, tensor in dots.items()
        for kind in ("weight", "bias")
    }
    converted = convert_ldm_unet_checkpoint(checkpoint, dict(model.config))
    weights = {name: one for name, one in converted.items() if name.endswith(".weight")}
    assert {name.removesuffix(".weight"): tuple(one.shape) for name, one in weights.items()} == unet


@pytest.mark.parametrize("called", ["Stable Diffusion 1", "Stable Diffusion 2", "SDXL"])
def test_every_name_of_a_module_finds_that_one_alone(called: str) -> None:
    modules = real_modules(called)
    names = ModuleNames(modules)
    for component, paths in modules.items():
        for path in paths:
            for called_so in (path, path.replace(".", "_"), path.removeprefix("text_model.")):
                assert names.find(component, called_so) == path  # type: ignore[arg-type]
            if component == "denoiser":
                assert names.find("denoiser", _dotted(str(names.compvis(path)))) == path
    assert names.find("denoiser", "down_blocks.9.resnets.0.conv1") is None
    layer = "text_model.encoder.layers.0.self_attn"
    assert names.find("text_encoder", f"{layer}.to_out") == f"{layer}.out_proj"
    assert names.find("text_encoder", f"{layer}.to_q") == f"{layer}.q_proj"


def test_a_unet_of_other_blocks_is_refused() -> None:
    said = {**UNETS["tiny"], "down_block_types": ("AttnDownBlock2D",) * 4}
    with pytest.raises(PerfError, match="blocks of the kind AttnDownBlock2D, whose layers perf cannot name"):
        modules_of({"unet": said})


def _dotted(name: str) -> str:
    """CompVis' name with its dots: those after numbers and before, and what has `_` itself."""
    text = name.replace("_", ".")
    for kept in (
        "input.blocks", "output.blocks", "middle.block", "time.embed", "label.emb", "in.layers", "out.layers",
        "emb.layers", "skip.connection", "transformer.blocks", "proj.in", "proj.out", "to.q", "to.k", "to.v",
        "to.out",
    ):  # fmt: skip
        text = text.replace(kept, kept.replace(".", "_"))
    return text
