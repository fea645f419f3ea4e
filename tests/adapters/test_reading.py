"""Files of every dialect are read to the same adapters."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from perfusion_registry.adapters.adapter import Adapter, Component, kind_of
from perfusion_registry.adapters.difference import bias_difference, difference
from perfusion_registry.adapters.modules import Modules
from perfusion_registry.adapters.names import ModuleNames
from perfusion_registry.adapters.reading import AdapterFile, look_into, read_adapters
from tests.adapters.dialects import ANY_KIND, PLAIN, save, save_header
from tests.adapters.samples import (
    KINDS,
    difference_of,
    file_tensors,
    layer_of,
    lycoris_of,
    real_modules,
    tiny_modules,
    tiny_sdxl_modules,
)

BASES = {"SD": tiny_modules, "SDXL": tiny_sdxl_modules}
BLOCK = "mid_block.attentions.0"
TOUCHED: dict[str, Component] = {
    f"{BLOCK}.transformer_blocks.0.attn2.to_k": "denoiser",
    f"{BLOCK}.transformer_blocks.0.attn1.to_out.0": "denoiser",
    "mid_block.resnets.1.conv1": "denoiser",
    "up_blocks.1.resnets.0.conv_shortcut": "denoiser",
    "text_model.encoder.layers.1.self_attn.q_proj": "text_encoder",
    "text_model.encoder.layers.0.mlp.fc1": "text_encoder",
}


def places(modules: Modules) -> list[tuple[Component, str]]:
    """Some modules of a base: linear, 1x1 and 3x3, in each component."""
    found = [(component, path) for path, component in TOUCHED.items()]
    if "text_encoder_2" in modules:
        found.append(("text_encoder_2", "text_model.encoder.layers.2.self_attn.out_proj"))
        found.append(("text_encoder_2", "text_projection"))
    return found


def random_adapter(
    kind: str, place: tuple[Component, str], modules: Modules, alpha: bool
) -> tuple[Adapter, Any, Any]:
    """One, LyCORIS' module that it is of, and the layer that this is over."""
    component, module = place
    layer = layer_of(modules[component][module])
    theirs = lycoris_of(kind, layer)
    tensors = file_tensors(theirs)
    said = tensors.pop("alpha", None)
    named = {name.removesuffix(".weight"): tensor.float() for name, tensor in tensors.items()}
    own = kind_of(named)
    assert own is not None
    return (
        Adapter(component, module, own, named, None if said is None or not alpha else float(said)),
        theirs,
        layer,
    )


def by_place(adapters: Sequence[Adapter]) -> dict[tuple[str, str], Adapter]:
    return {(one.component, one.module): one for one in adapters}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", ANY_KIND)
def test_the_tools_of_every_kind_write_what_lycoris_has(
    tmp_path: Path, dialect: str, kind: str, base: str
) -> None:
    torch.manual_seed(0)
    modules = BASES[base]()
    made = [random_adapter(kind, place, modules, alpha=True) for place in places(modules)]
    names = ModuleNames(modules)
    file = save(tmp_path / "it.safetensors", ANY_KIND[dialect]([one for one, _, _ in made], names))
    read = by_place(read_adapters(file, modules).adapters)
    assert len(read) == len(made)
    for adapter, theirs, layer in made:
        ours = read[adapter.component, adapter.module]
        assert ours.kind == adapter.kind
        wanted = difference_of(theirs, layer)
        change = difference(ours, layer.weight.detach()) - wanted
        assert change.abs().max() < 1e-6 * max(1.0, float(wanted.abs().max())), adapter.module


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("dialect", [*ANY_KIND, *PLAIN])
def test_without_alpha_the_factors_are_as_they_are(tmp_path: Path, dialect: str, base: str) -> None:
    torch.manual_seed(0)
    modules = BASES[base]()
    made = [random_adapter("lora", place, modules, alpha=False)[0] for place in places(modules)]
    write = {**ANY_KIND, **PLAIN}[dialect]
    file = save(tmp_path / "it.safetensors", write(made, ModuleNames(modules)))
    found = read_adapters(file, modules)
    read = by_place(found.adapters)
    expected = [one for one in made if dialect != "PEFT" or one.component == "denoiser"]
    assert len(read) == len(expected)
    for adapter in expected:
        ours = read[adapter.component, adapter.module]
        up, down = adapter.tensors["lora_up"].double(), adapter.tensors["lora_down"].double()
        weight = torch.zeros(modules[adapter.component][adapter.module], dtype=torch.float64)
        wanted = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
        assert torch.allclose(difference(ours, weight), wanted, atol=1e-12)
    told = {"OneTrainer": "kohya", "diffusers of 2023": "diffusers", "diffusers' first": "diffusers"}
    assert found.contents.dialect == told.get(dialect, dialect)


def test_onetrainer_is_told_by_what_it_says_of_itself_and_lycoris_by_its_kinds(tmp_path: Path) -> None:
    torch.manual_seed(0)
    modules = tiny_sdxl_modules()
    names = ModuleNames(modules)
    for kind, metadata, dialect in (
        ("lora", {"ot_branch": "master"}, "OneTrainer"),
        ("lokr", {}, "LyCORIS"),
        ("dora", {}, "LyCORIS"),
        ("lora", {}, "kohya"),
    ):
        adapter = random_adapter(kind, places(modules)[0], modules, alpha=True)[0]
        file = save(tmp_path / "it.safetensors", ANY_KIND["kohya"]([adapter], names), metadata or None)
        assert look_into(file, modules).dialect == dialect


def test_norms_and_biases_are_read(tmp_path: Path) -> None:
    modules = tiny_modules()
    norm, bias = torch.randn(64), torch.randn(64)
    file = save(
        tmp_path / "it.safetensors",
        {
            "lora_unet_mid_block_resnets_0_norm1.w_norm": norm,
            "lora_unet_mid_block_resnets_0_norm1.b_norm": bias,
            "lora_unet_mid_block_resnets_0_conv1.diff_b": bias.clone(),
        },
    )
    read = by_place(read_adapters(file, modules).adapters)
    one = read["denoiser", "mid_block.resnets.0.norm1"]
    assert torch.equal(difference(one, torch.zeros(64)), norm)
    alone = read["denoiser", "mid_block.resnets.0.conv1"]
    changed = bias_difference(alone)
    assert changed is not None
    assert torch.equal(changed, bias)
    assert not difference(alone, torch.ones(64, 64, 3, 3)).any()


def test_fp8_and_bf16_are_read(tmp_path: Path) -> None:
    modules = tiny_modules()
    module = "lora_unet_mid_block_resnets_0_conv1"
    down, up = torch.randn(2, 64, 3, 3).to(torch.float8_e4m3fn), torch.randn(64, 2, 1, 1).bfloat16()
    file = save(
        tmp_path / "it.safetensors", {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
    )
    (one,) = read_adapters(file, modules).adapters
    wanted = up.float().flatten(1) @ down.float().flatten(1)
    assert torch.allclose(difference(one, torch.zeros(64, 64, 3, 3)).flatten(1), wanted, atol=1e-5)


PUBLISHED = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "base" / "published_tensors.json.gz").read_bytes())
)
TABLES = {
    "Stable Diffusion 1": ["LoRA-v1A-UNET", "LoRA-v1A-CLIP"],
    "SDXL": ["LoRA-XL-UNET", "LoRA-XL-CLIP", "LoRA-XL-AUX-CLIP"],
}


@pytest.mark.parametrize("called", TABLES)
def test_published_loras_of_kohya_fit_the_real_bases(tmp_path: Path, called: str) -> None:
    """Names and shapes of files for the real models, against these by their configurations."""
    shapes = {
        key: tuple(4 if side == -1 else side for side in shape)
        for table in TABLES[called]
        for key, shape in cast(dict[str, list[int]], PUBLISHED["components"][table]).items()
    }
    file = save_header(tmp_path / "it.safetensors", shapes)
    contents = look_into(file, real_modules(called))
    assert contents.base == called
    assert len(contents.parts) == sum(key.endswith(".lora_up.weight") for key in shapes)
    assert {part.component for part in contents.parts} == set(real_modules(called))
    assert {part.rank for part in contents.parts} == {4}
    assert contents.in_text


def words_of(file: AdapterFile) -> dict[str | None, dict[str, tuple[int, ...]]]:
    return {
        one.word: {name: tuple(tensor.shape) for name, tensor in one.vectors.items()}
        for one in file.embeddings
    }


def test_textual_inversions_are_read_whoever_wrote_them(tmp_path: Path) -> None:
    several, one = torch.randn(3, 32), torch.randn(32)
    both = {"clip_g": torch.randn(2, 48), "clip_l": torch.randn(2, 32)}
    pivotal = {"text_encoders_0": both["clip_l"], "text_encoders_1": both["clip_g"]}
    for tensors, modules, word, dialect in (
        ({"emb_params": several}, tiny_modules(), None, "A1111"),
        ({"<toy>": one}, tiny_modules(), "<toy>", "diffusers"),
        (both, tiny_sdxl_modules(), None, "A1111"),
        (pivotal, tiny_sdxl_modules(), None, "A1111"),
    ):
        file = read_adapters(save(tmp_path / "it.safetensors", tensors), modules)
        (found,) = file.embeddings
        assert (found.word, file.contents.dialect, file.adapters) == (word, dialect, ())
        assert file.contents.words == (() if word is None else (word,))
        assert found.vectors["text_encoder"].shape[1] == 32
        rows = next(iter(tensors.values()))
        assert found.count == (rows.shape[0] if rows.ndim == 2 else 1)
        if len(tensors) == 2:
            assert torch.equal(found.vectors["text_encoder_2"], both["clip_g"])


def test_embeddings_inside_a_lora_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    modules = tiny_sdxl_modules()
    adapter = random_adapter("lora", places(modules)[0], modules, alpha=True)[0]
    bundle = {"bundle_emb.my.toy.clip_l": torch.randn(2, 32), "bundle_emb.my.toy.clip_g": torch.randn(2, 48)}
    tensors = {**ANY_KIND["OneTrainer"]([adapter], ModuleNames(modules)), **bundle}
    file = read_adapters(save(tmp_path / "it.safetensors", tensors), modules)
    assert words_of(file) == {"my.toy": {"text_encoder": (2, 32), "text_encoder_2": (2, 48)}}
    assert (len(file.adapters), file.contents.words) == (1, ("my.toy",))
    modules = tiny_modules()
    adapter = random_adapter("lora", places(modules)[0], modules, alpha=True)[0]
    tensors = {
        **ANY_KIND["kohya"]([adapter], ModuleNames(modules)),
        "bundle_emb.toy.string_to_param.*": torch.randn(4, 32),
    }
    file = read_adapters(save(tmp_path / "it.safetensors", tensors), modules)
    assert words_of(file) == {"toy": {"text_encoder": (4, 32)}}
