"""Which device and number formats to compute with, when nobody says."""

from __future__ import annotations

import torch

from perfusion_registry.errors import PerfError

_NAMES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}


def choose_device(wanted: str | torch.device = "auto") -> torch.device:
    """The device called `wanted`; "auto" is cuda, else mps, else cpu. Raises PerfError if it is not here."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise PerfError(
            f"there is no device called {wanted!r}", hint="use auto, cuda, cuda:1, mps or cpu"
        ) from None
    here = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if not here.get(device.type, False):
        raise PerfError(
            f"there is no device {str(device)!r} that torch can use here", hint="use --device auto"
        )
    return device


def choose_dtype(device: torch.device, wanted: str | torch.dtype = "auto") -> torch.dtype:
    """The format of the weights: "auto" is bf16 where cuda has it, else fp16, and fp32 on a cpu."""
    if wanted != "auto":
        return _named(wanted)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    return torch.float16 if device.type == "mps" else torch.float32


def choose_compute_dtype(
    device: torch.device, dtype: torch.dtype, wanted: str | torch.dtype = "auto"
) -> torch.dtype:
    """The format of the products: "auto" is `dtype`, but bf16 for fp32 weights on a cpu with matrix units.

    Without them bf16 is no faster than fp32: with AVX-512's bf16 instructions alone, training took a third
    longer.
    """
    if wanted != "auto":
        return _named(wanted)
    if device.type == "cpu" and dtype == torch.float32 and _has_matrix_units():
        return torch.bfloat16
    return dtype


def choose_formats(
    device: torch.device, dtype: str | torch.dtype = "auto", compute_dtype: str | torch.dtype = "auto"
) -> tuple[torch.dtype, torch.dtype]:
    """The formats of the weights and of the products; who asks for a format of the weights and none of the
    products gets it for both."""
    weights = choose_dtype(device, dtype)
    return weights, choose_compute_dtype(device, weights, dtype if compute_dtype == "auto" else compute_dtype)


def _has_matrix_units() -> bool:
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())  # private in torch, hence the care


def _named(wanted: str | torch.dtype) -> torch.dtype:
    dtype = _NAMES.get(wanted) if isinstance(wanted, str) else wanted
    if dtype not in _NAMES.values():
        raise PerfError(f"{wanted!r} is no number format for a base", hint="use auto, fp32, bf16 or fp16")
    assert dtype is not None
    return dtype
