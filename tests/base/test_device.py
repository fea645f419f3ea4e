"""Devices and formats: good defaults, and clear refusals."""

from __future__ import annotations

import pytest
import torch

from perfusion_registry.base.device import choose_compute_dtype, choose_device, choose_dtype
from perfusion_registry.errors import PerfError

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))


def test_names_and_objects() -> None:
    assert choose_device("cpu") == CPU
    assert choose_dtype(CUDA, "bf16") == torch.bfloat16
    assert choose_dtype(CUDA, torch.float16) == torch.float16
    assert choose_compute_dtype(CPU, torch.float32, "float32") == torch.float32


def test_defaults_by_device() -> None:
    assert choose_dtype(CPU) == torch.float32
    assert choose_dtype(MPS) == torch.float16
    assert choose_compute_dtype(MPS, torch.float16) == torch.float16
    assert choose_compute_dtype(CPU, torch.bfloat16) == torch.bfloat16
    assert choose_compute_dtype(CPU, torch.float32) in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("wanted", ["gpu", "cuda:99", "", "meta"])
def test_no_such_device(wanted: str) -> None:
    with pytest.raises(PerfError, match="device"):
        choose_device(wanted)


@pytest.mark.parametrize("wanted", ["int8", "float64", torch.int64])
def test_no_such_format(wanted: str | torch.dtype) -> None:
    with pytest.raises(PerfError, match="format"):
        choose_dtype(CPU, wanted)
