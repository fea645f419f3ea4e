"""LoRAs and their kin in `[base]`: the same picture as diffusers' own loader gives, where it reads the file,
and LyCORIS' weights where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from perfusion_registry.adapters.adapter import Adapter, kind_of
from perfusion_registry.adapters.modules import Modules
from perfusion_registry.adapters.names import ModuleNames
from perfusion_registry.base import Base, BaseDescription, SaidOfBase, describe_base, load_base
from perfusion_registry.base.adapted import modules_of_base
from perfusion_registry.base.changes import module_at
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.lora.drawing import changes_of
from perfusion_registry.methods.lora.importing import imported
from perfusion_registry.recipe import BaseSection
from tests.adapters.dialects import (
    comfy,
    diffusers,
    diffusers_of_2023,
    diffusers_processors,
    kohya,
    one_trainer,
    save,
)
from tests.adapters.samples import KINDS, difference_of, file_tensors, lycoris_of
from tests.sdxl import save_small_sdxl

BLOCK = "mid_block.attentions.0"
LINEAR = (
    ("denoiser", f"{BLOCK}.transformer_blocks.0.attn2.to_k"),
    ("denoiser", f"{BLOCK}.transformer_blocks.0.attn1.to_out.0"),
    ("denoiser", "up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q"),
    ("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj"),
    ("text_encoder", "text_model.encoder.layers.0.self_attn.out_proj"),
)
DEEP = (
    ("denoiser", "down_blocks.1.resnets.0.conv1"),
    ("denoiser", f"{BLOCK}.proj_in"),
    ("denoiser", "mid_block.resnets.1.time_emb_proj"),
)


@pytest.fixture(autouse=True)
def own_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def folders(tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"SD": tiny_base_folder, "SDXL": save_small_sdxl(tmp_path_factory.mktemp("sdxl"))}


def with_lora(base: Path, root: Path, **entry: Any) -> Base:
    section = BaseSection.model_validate({"lora": ({"file": "it.safetensors", **entry},)})
    return load_base(
        describe_base(str(base), said=SaidOfBase(section, root, "perfusion.toml")), "cpu", "float32"
    )


def plain_loras(modules: Modules, places: Any, alpha: float | None) -> list[Adapter]:
    made = []
    for component, module in places:
        shape = modules[component][module]
        ones = [1] * (len(shape) - 2)
        factors = {
            "lora_down": torch.randn(3, *shape[1:]) / shape[1] ** 0.5,
            "lora_up": torch.randn(shape[0], 3, *ones),
        }
        made.append(Adapter(component, module, "lora", factors, alpha))
    return made


DIALECTS = {
    "kohya": (kohya, True, True),
    "diffusers": (diffusers, True, False),
    "diffusers of 2023": (diffusers_of_2023, True, False),
    "diffusers' first": (diffusers_processors, False, False),
    "OneTrainer": (one_trainer, True, True),
}
"""By name: who writes so, whether stock diffusers reads convolutions too, and whether it says alpha."""


@pytest.mark.parametrize("kind", ["SD", "SDXL"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_picture_is_that_of_diffusers_own_loader(
    folders: dict[str, Path], tmp_path: Path, dialect: str, kind: str
) -> None:
    write, convolutions, says_alpha = DIALECTS[dialect]
    base = folders[kind]
    modules = modules_of_base(describe_base(str(base)))
    places = (*LINEAR, *(DEEP if convolutions and not (kind == "SDXL" and write is kohya) else ()))
    if kind == "SDXL":
        places = (*places, ("text_encoder_2", "text_model.encoder.layers.1.self_attn.out_proj"))
        places = tuple(place for place in places if place[1] != "mid_block.resnets.1.time_emb_proj")
    adapters = plain_loras(modules, places, 1.5 if says_alpha else None)
    save(tmp_path / "it.safetensors", write(adapters, ModuleNames(modules)))
    pipeline: Any = StableDiffusionXLPipeline if kind == "SDXL" else StableDiffusionPipeline
    theirs = pipeline.from_pretrained(base)
    before = drawn(theirs)
    theirs.load_lora_weights(str(tmp_path), weight_name="it.safetensors")
    wanted = drawn(theirs)
    assert np.abs(wanted - before).max() > 0.02
    ours = drawn(with_lora(base, tmp_path).pipe)
    assert np.abs(ours - wanted).max() < 2e-3


def drawn(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        "a teddy in the snow",
        num_inference_steps=2,
        guidance_scale=2.0,
        height=64,
        width=64,
        output_type="np",
        generator=torch.Generator().manual_seed(0),
    ).images[0]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lora"])
def test_the_kin_of_lora_is_fused_as_lycoris_has_it(
    tiny_base_folder: Path, tmp_path: Path, kind: str
) -> None:
    plain = load_base(describe_base(str(tiny_base_folder)), "cpu", "float32")
    modules = modules_of_base(plain.description)
    models = {"denoiser": plain.pipe.unet, "text_encoder": plain.pipe.text_encoder}
    adapters, wanted = [], []
    for component, module in (*LINEAR, *DEEP):
        layer = module_at(models[component], module)
        own = torch.nn.Linear(*reversed(layer.weight.shape)) if layer.weight.ndim == 2 else None
        if own is None:
            out, into, size, _ = layer.weight.shape
            own = torch.nn.Conv2d(into, out, size, padding=size // 2)
        own.weight.data = layer.weight.detach().clone()
        own = own.double()
        theirs = lycoris_of(kind, own)
        tensors = file_tensors(theirs)
        alpha = float(tensors.pop("alpha")) if "alpha" in tensors else None
        named = {name.removesuffix(".weight"): tensor.float() for name, tensor in tensors.items()}
        found = kind_of(named)
        assert found is not None
        adapters.append(Adapter(component, module, found, named, alpha))  # type: ignore[arg-type]
        wanted.append(own.weight.detach() + 0.5 * difference_of(theirs, own))
    save(tmp_path / "it.safetensors", comfy(adapters, ModuleNames(modules)))
    made = with_lora(tiny_base_folder, tmp_path, strength=0.5)
    models = {"denoiser": made.pipe.unet, "text_encoder": made.pipe.text_encoder}
    for adapter, weight in zip(adapters, wanted, strict=True):
        ours = module_at(models[adapter.component], adapter.module).weight
        assert torch.allclose(ours.double(), weight, atol=2e-6 * float(weight.abs().max())), adapter.module


def test_norms_and_biases_are_fused(tiny_base_folder: Path, tmp_path: Path) -> None:
    change = {name: torch.randn(64) for name in ("w_norm", "b_norm", "diff_b")}
    save(
        tmp_path / "it.safetensors",
        {
            "lora_unet_mid_block_resnets_0_norm1.w_norm": change["w_norm"],
            "lora_unet_mid_block_resnets_0_norm1.b_norm": change["b_norm"],
            "lora_unet_mid_block_resnets_0_conv1.diff_b": change["diff_b"],
        },
    )
    plain = load_base(describe_base(str(tiny_base_folder)), "cpu", "float32").pipe.unet.mid_block.resnets[0]
    made = with_lora(tiny_base_folder, tmp_path, strength=0.5).pipe.unet.mid_block.resnets[0]
    assert torch.allclose(made.norm1.weight, plain.norm1.weight + 0.5 * change["w_norm"])
    assert torch.allclose(made.norm1.bias, plain.norm1.bias + 0.5 * change["b_norm"])
    assert torch.allclose(made.conv1.bias, plain.conv1.bias + 0.5 * change["diff_b"])
    assert torch.equal(made.conv1.weight, plain.conv1.weight)


def test_layers_that_clip_skip_leaves_out_may_be_changed(tiny_base_folder: Path, tmp_path: Path) -> None:
    """As LoRAs do that people draw with clip skip 2: what is not read changes nothing."""
    modules = modules_of_base(describe_base(str(tiny_base_folder)))
    layers = [("text_encoder", f"text_model.encoder.layers.{number}.mlp.fc1") for number in (0, 1)]
    adapters = plain_loras(modules, layers, None)

    def encoded(chosen: list[Adapter]) -> torch.Tensor:
        save(tmp_path / "it.safetensors", kohya(chosen, ModuleNames(modules)))
        said = {"clip_skip": 2, "lora": ({"file": "it.safetensors"},)}
        where = SaidOfBase(BaseSection.model_validate(said), tmp_path, "perfusion.toml")
        base = load_base(describe_base(str(tiny_base_folder), said=where), "cpu", "float32")
        return base.encode([base.tokenise(["a teddy"])]).states

    both, first, last = encoded(adapters), encoded(adapters[:1]), encoded(adapters[1:])
    assert torch.equal(both, first)
    assert not torch.allclose(first, last)


def test_an_imported_lora_may_change_layers_that_clip_skip_leaves_out(
    tiny_base_folder: Path, tmp_path: Path
) -> None:
    modules = modules_of_base(describe_base(str(tiny_base_folder)))
    layers = [("text_encoder", f"text_model.encoder.layers.{number}.mlp.fc1") for number in (0, 1)]
    adapters = plain_loras(modules, layers, None)
    save(tmp_path / "it.safetensors", kohya(adapters, ModuleNames(modules)))
    said = SaidOfBase(BaseSection.model_validate({"clip_skip": 2}), tmp_path, "perfusion.toml")
    base = load_base(describe_base(str(tiny_base_folder), said=said), "cpu", "float32")
    assert isinstance(base.description, BaseDescription)
    made = imported(tmp_path / "it.safetensors", base.description, "it")
    changes = changes_of(base, made.tensors, "it")
    assert list(changes["text_encoder"]) == [layers[0][1]]


def test_words_in_a_lora_are_not_left_out_in_silence(tiny_base_folder: Path, tmp_path: Path) -> None:
    modules = modules_of_base(describe_base(str(tiny_base_folder)))
    tensors = kohya(plain_loras(modules, LINEAR[:1], 1.0), ModuleNames(modules))
    save(tmp_path / "it.safetensors", {**tensors, "bundle_emb.toy.clip_l": torch.randn(1, 32)})
    with pytest.raises(PerfError, match="is a LoRA with words in it") as caught:
        with_lora(tiny_base_folder, tmp_path)
    assert caught.value.where == "perfusion.toml, base.lora[0].file"
