"""Where a word looks: cross-attention maps, recorded while a UNet runs."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

import torch
from torch import Tensor


class AttentionRecorder:
    """A context that records how much each place of the picture attends to chosen tokens.

    positions: for each sample of the batch, the token positions whose attention is summed.
    latent_size: (height, width) of the UNet's input.
    """

    def __init__(
        self, unet: torch.nn.Module, positions: Sequence[Sequence[int]], latent_size: tuple[int, int]
    ) -> None:
        raise NotImplementedError

    def __enter__(self) -> AttentionRecorder:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    def maps(self) -> Tensor:
        """(B, h, w) fp32: mean over all layers, heads and calls, at the size of the largest recorded map."""
        raise NotImplementedError
