"""Digests of weights: whatever the format of a file and however large its tensors, of the same numbers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from perfusion_registry.base.layouts import LAYOUTS
from perfusion_registry.base.text_tensors import text_tensors, text_tensors_digest
from perfusion_registry.base.weights import half_precision_digest, tensor_digests, tensor_entries

SHAPES = {"small": (3,), "exact": (512, 1024), "large": (700, 1001), "one": ()}
"""One of exactly the 2^20 bytes of fp16 that are read at a time, and one of more."""


def numbers() -> dict[str, torch.Tensor]:
    """In fp16, so that every format has the same."""
    noise = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=noise).half() for name, shape in SHAPES.items()}


def digest_of(tensors: dict[str, torch.Tensor]) -> str:
    """As it is defined, by torch."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(json.dumps([name, list(tensors[name].shape)]).encode())
        total.update(hashlib.sha256(tensors[name].half().contiguous().numpy().tobytes()).digest())
    return total.hexdigest()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_digest_is_that_of_the_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    path, halves = tmp_path / "model.safetensors", numbers()
    save_file({name: tensor.to(dtype) for name, tensor in halves.items()}, path)
    assert half_precision_digest(path) == digest_of(halves)
    assert tensor_digests(path) == {name: digest_of({"": tensor}) for name, tensor in halves.items()}


def test_bf16_is_rounded_as_torch_rounds_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    brief = {name: (1e5 * tensor.float()).bfloat16() for name, tensor in numbers().items()}  # inf, some of it
    save_file(brief, path)
    assert half_precision_digest(path) == digest_of({name: tensor.half() for name, tensor in brief.items()})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_openclip_fuses_and_transposes_is_read_as_transformers_has_it(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    (encoder,) = [one for one in LAYOUTS[-1].encoders if one.open_clip]
    width, path = 640, tmp_path / "whole.safetensors"
    noise = torch.Generator().manual_seed(0)
    fused = torch.randn(3 * width, width, generator=noise).half()
    projection = torch.randn(width, width, generator=noise).half()
    said = {"transformer.resblocks.0.attn.in_proj_weight": fused, "text_projection": projection}
    save_file({encoder.prefix + name: tensor.to(dtype) for name, tensor in said.items()}, path)
    configuration = {"architectures": ["CLIPTextModelWithProjection"], "num_hidden_layers": 1}
    parts = text_tensors(tensor_entries(path), encoder, configuration)
    wanted = {
        f"encoder.layers.0.self_attn.{side}_proj.weight": rows
        for side, rows in zip("qkv", fused.chunk(3), strict=True)
    }
    with path.open("rb") as file:
        assert text_tensors_digest(file, parts) == digest_of(
            {**wanted, "text_projection.weight": projection.T}
        )
