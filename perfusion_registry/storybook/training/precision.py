"""Number formats of training: bf16 where matrix units make it the faster one, fp32 elsewhere."""

from __future__ import annotations

import torch

from perfusion_registry.base.device import choose_compute_dtype


def training_dtype(device: str | torch.device) -> torch.dtype:
    """The format that a device multiplies fastest in: bf16 on an accelerator and with matrix units."""
    kind = torch.device(device)
    return torch.bfloat16 if kind.type != "cpu" else choose_compute_dtype(kind, torch.float32)


def autocast(device: str | torch.device) -> torch.autocast:
    """Autocast to `training_dtype`; it does nothing where that is fp32."""
    dtype = training_dtype(device)
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=dtype != torch.float32)
