"""Number formats of training: weights are fp32 everywhere; products are in bf16 where that is faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch.nn import functional

CLEARLY = 1.3
"""How many times faster a convolution in bf16 must be on a processor."""


def autocast(device: str | torch.device) -> torch.autocast:
    """Autocast to bf16 on an accelerator and on a processor that is faster in it; elsewhere nothing."""
    kind = torch.device(device)
    return torch.autocast(kind.type, torch.bfloat16, enabled=kind.type != "cpu" or faster_in_bf16())


@cache
def faster_in_bf16() -> bool:
    """Whether this processor is clearly faster in bf16, by a convolution and a product of a training's size.

    One with matrix units is; of those that have bf16 in their vector units alone, some are twice as fast as
    in fp32 and some slower, which no flag tells and a tenth of a second shows.
    """
    if torch.cpu._is_amx_tile_supported():
        return True
    if not torch.cpu._is_avx512_bf16_supported():
        return False
    pages = torch.randn(32, 96, 16, 16).to(memory_format=torch.channels_last)
    kernel, rows, matrix = torch.randn(96, 96, 3, 3), torch.randn(2048, 384), torch.randn(384, 384)
    with torch.no_grad():
        wide = _seconds(lambda: (functional.conv2d(pages, kernel, padding=1), rows @ matrix))
        pages, kernel, rows, matrix = (x.bfloat16() for x in (pages, kernel, rows, matrix))
        narrow = _seconds(lambda: (functional.conv2d(pages, kernel, padding=1), rows @ matrix))
    return wide > CLEARLY * narrow


def _seconds(act: Callable[[], object]) -> float:
    """The least processor time of five runs after a first."""
    times = []
    for _ in range(6):
        begun = time.process_time()
        act()
        times.append(time.process_time() - begun)
    return min(times[1:])
