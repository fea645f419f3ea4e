"""What concepts cost a denoising step here, and by the public implementation of the same paper.

Its rows are there where `perfusion_pytorch` can be imported: `pip install perfusion-pytorch`. It changes keys
and values in every layer and step; here, encodings carry the change, or a concept's rows are replaced.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.bench.drawing import NAMES, denoised, edited, step_of, storybook
from benchmarks.bench.turns import Pair, Row


def rows() -> list[Row]:
    """Steps with 1, 2 and 8 concepts; none where the other implementation is not installed."""
    if find_spec("perfusion_pytorch") is None:
        return []
    return [
        Row(
            f"a denoising step, {count} concept{'s' * (count > 1)}",
            "perfusion-pytorch's",
            partial(_steps, NAMES[:count]),
            1.0,
        )
        for count in (1, 2, 8)
    ]


@contextmanager
def _steps(names: tuple[str, ...]) -> Iterator[Pair]:
    base, step = storybook(), step_of(names)
    theirs = copy.deepcopy(base.denoiser)
    _edit(theirs, step.plain, len(names))
    yield partial(edited, step), lambda: denoised(theirs, step, step.plain)


def _edit(unet: Any, states: Tensor, count: int) -> None:
    """Put its edits into every cross-attention. states: (2, n, d); the concepts' inputs are some of its rows,
    their outputs what those become: what a step costs hangs on their number alone."""
    known = states.flatten(0, 1).float()
    covariance, told = known.T @ known / len(known) + torch.eye(known.shape[1]), known[-count:]
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            for part in ("to_k", "to_v"):
                linear = getattr(module, part)
                edits = [_edited(linear, one, covariance, states.shape[1], part == "to_k") for one in told]
                setattr(module, part, _Called(edits))


def _edited(linear: nn.Linear, state: Tensor, covariance: Tensor, length: int, key: bool) -> Any:
    made = _public().Rank1EditModule(linear, C=covariance, text_seq_len=length, is_key_proj=key).eval()
    made.initted.fill_(True)
    made.ema_concept_text_encs.copy_(state)
    made.concept_outputs.data.copy_(state @ linear.weight.T.float())
    return made


class _Called(nn.Module):
    """Its edits as one projection, of all concepts at once."""

    def __init__(self, edits: list[Any]) -> None:
        super().__init__()
        self.edit = edits[0] if len(edits) == 1 else _public().merge_rank1_edit_modules(*edits)
        self.concepts = tuple(range(len(edits))) if len(edits) > 1 else 0

    def forward(self, states: Tensor) -> Tensor:
        projected: Tensor = self.edit(states, concept_id=self.concepts)
        return projected


def _public() -> Any:
    """Its module. Only its adapter for training asks for open_clip, which is not needed here."""
    if "open_clip" not in sys.modules and find_spec("open_clip") is None:
        adapter, tokenizer = ModuleType("open_clip"), ModuleType("open_clip.tokenizer")
        vars(tokenizer)["tokenize"] = vars(tokenizer)["_tokenizer"] = None
        vars(adapter)["tokenizer"] = tokenizer
        sys.modules["open_clip"] = adapter
    from perfusion_pytorch import perfusion

    return perfusion
