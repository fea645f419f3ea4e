"""Folders whose weights exist under other names than the plain one open too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from perfusion_registry.base import describe_base, load_base
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.weights import weight_variants
from perfusion_registry.errors import PerfError

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def save_as(folder: Path, model: str, *variants: str | None) -> None:
    """Give a model these names, and no other; each variant has other numbers, unless it is a rounding."""
    plain = folder / model / f"{STEMS[model]}.safetensors"
    tensors = load_file(plain)
    plain.unlink()
    for variant in variants:
        name = f"{STEMS[model]}.{variant}.safetensors" if variant else plain.name
        kind = TYPES.get(variant or "", torch.float32)
        changed = 1.01 if variant == "non_ema" else 1.0
        said = {key: (tensor * changed).to(kind) for key, tensor in tensors.items()}
        save_file(said, folder / model / name)


CASES: dict[str, tuple[dict[str, tuple[str | None, ...]], dict[str, str | None]]] = {
    "bf16 alone": (
        dict.fromkeys(STEMS, ("bf16",)),
        {"unet": "bf16", "vae": "bf16", "text_encoder": "bf16"},
    ),
    "non-EMA alone": ({"unet": ("non_ema",)}, {"unet": "non_ema", "vae": None, "text_encoder": None}),
    "another for each": (
        {"unet": ("bf16", "fp16"), "vae": ("bf16",), "text_encoder": (None, "fp16")},
        {"unet": "fp16", "vae": "bf16", "text_encoder": None},
    ),
    "one for all before the plain ones of some": (
        {"unet": ("fp16",), "vae": (None, "fp16"), "text_encoder": ("fp16", None)},
        {"unet": "fp16", "vae": "fp16", "text_encoder": "fp16"},
    ),
    "the plain ones where all have them": (
        dict.fromkeys(STEMS, ("fp16", None)),
        {"unet": None, "vae": None, "text_encoder": None},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_model_opens_under_a_name_that_it_has(tiny_base_folder: Path, tmp_path: Path, case: str) -> None:
    named, chosen = CASES[case]
    folder = shutil.copytree(tiny_base_folder, tmp_path / "base")
    for model, variants in named.items():
        save_as(folder, model, *variants)
    described = describe_base(str(folder))
    assert dict(described.variants) == chosen
    read = {file.path for file in described.files}
    assert len([path for path in read if path.endswith(".safetensors")]) == 4  # with CLIP's
    if case != "another for each":
        return
    base = load_base(described, device="cpu", dtype="float32", compute_dtype="float32")
    for model, variant in chosen.items():
        name = f"{STEMS[model]}.{variant}.safetensors" if variant else f"{STEMS[model]}.safetensors"
        assert f"{model}/{name}" in read
        stored = load_file(folder / model / name)
        loaded = dict(getattr(base.pipe, model).named_parameters())
        assert loaded.keys() <= stored.keys()
        assert all(torch.equal(tensor, stored[key].float()) for key, tensor in loaded.items())


def test_a_model_without_weights_is_told(tiny_base_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_base_folder, tmp_path / "base")
    save_as(folder, "unet")
    with pytest.raises(PerfError, match="the base's unet has no safetensors weights"):
        describe_base(str(folder))
    assert not BaseFiles(folder).is_complete(tuple(STEMS))
    save_as(folder, "vae", "fp16", "bf16", "odd_one")
    assert weight_variants(folder / "vae") == ("fp16", "bf16", "odd_one")
    assert weight_variants(folder / "text_encoder") == (None,)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["os", "system"], "it is a system of os, and not of diffusers or transformers"),
        (["diffusers", "NoSuchModel"], "diffusers has no model called NoSuchModel"),
        (["transformers", "logging"], "transformers has no model called logging"),
        ("UNet2DConditionModel", "cannot be loaded"),
        (["diffusers", 5], "cannot be loaded"),
    ],
)
def test_an_index_imports_models_of_the_two_libraries_and_nothing_else(
    tiny_base_folder: Path, tmp_path: Path, said: object, told: str
) -> None:
    folder = shutil.copytree(tiny_base_folder, tmp_path / "base")
    save_as(folder, "vae", "bf16")
    index = folder / "model_index.json"
    described = describe_base(str(folder))
    index.write_text(json.dumps({**json.loads(index.read_text()), "vae": said}))
    with pytest.raises(PerfError, match=told) as caught:
        load_base(described, device="cpu", dtype="float32", compute_dtype="float32")
    assert caught.value.where == str(index)
