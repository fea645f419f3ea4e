"""Number formats of training: weights are fp32 everywhere; accelerators and matrix units multiply in bf16."""

from __future__ import annotations

import torch

from perfusion_registry.base.device import choose_compute_dtype


def autocast(device: str | torch.device) -> torch.autocast:
    """Autocast to bf16 on an accelerator and where there are matrix units; it does nothing elsewhere."""
    kind = torch.device(device)
    units = kind.type != "cpu" or choose_compute_dtype(kind, torch.float32) == torch.bfloat16
    return torch.autocast(kind.type, torch.bfloat16, enabled=units)
