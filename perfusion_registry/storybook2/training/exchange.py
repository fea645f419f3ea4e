"""Whether keys say where things go: the keys of two nouns are exchanged, their values are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn

from perfusion_registry.storybook2.recogniser import Recogniser
from perfusion_registry.storybook2.training.assembly import drawn_by
from perfusion_registry.storybook2.training.attention import Probe
from perfusion_registry.storybook2.training.keys import keys_of, look_for, nouns_of
from perfusion_registry.storybook2.training.questions import Question


@dataclass(frozen=True)
class Exchanged:
    """What came of pictures in which both things were there before.

    counted: how many these are. attended: in how many of them the attention of each noun went to where the
    other thing had been. moved: in how many pictures both things are still there and have changed sides.
    """

    counted: int
    attended: int
    moved: int


def exchanged(states: Tensor, tokens: Tensor) -> Tensor:
    """Encodings (B, n, d) in which two tokens (B, 2) have changed places."""
    rows, (first, second) = torch.arange(len(states)), tokens.unbind(1)
    result = states.clone()
    result[rows, first], result[rows, second] = states[rows, second], states[rows, first]
    return result


def exchange(
    pipe: StableDiffusionPipeline,
    recogniser: Recogniser,
    asked: Sequence[Question],
    *,
    steps: int = 25,
    guidance: float = 4.0,
    seed: int = 0,
    batch: int = 8,
) -> Exchanged:
    """Draw the questions, of two things side by side, as they are and with the keys exchanged, with the same
    seeds."""
    counted = attended = moved = 0
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        tokens = nouns_of(pipe.tokenizer, part)
        keep = (tokens >= 0).all(1)
        part, tokens = [q for q, kept in zip(part, keep, strict=True) if kept], tokens[keep]
        if not part:
            continue
        prompts = [question.prompt for question in part]
        draw = partial(
            drawn_by, pipe, prompts, steps=steps, guidance=guidance, seed=seed + start, batch=batch
        )
        before = draw()
        with keys_of(pipe.unet, partial(exchanged, tokens=tokens)), attention_kept(pipe.unet, tokens) as maps:
            after = draw()
        there, where = look_for(recogniser, before, part)
        still, now = look_for(recogniser, after, part)
        mean = torch.stack(maps).mean(0)  # (B, 2, 256)
        own, other = (mean * where).sum(-1), (mean * where.flip(1)).sum(-1)
        counted += int(there.sum())
        attended += int((there & (other > own).all(1)).sum())
        moved += int((there & still & (_order(where) * _order(now) < 0)).sum())
    return Exchanged(counted, attended, moved)


@contextmanager
def attention_kept(unet: UNet2DConditionModel, tokens: Tensor) -> Iterator[list[Tensor]]:
    """Within it, the list that the attention (B, 2, 256) of two tokens goes to, of every layer of 16 x 16
    places and every step."""
    processors, probe = unet.attn_processors, Probe()
    maps: list[Tensor] = []

    def told(module: nn.Module, given: tuple[Any, ...], result: Any) -> None:
        rows = torch.arange(len(tokens))
        for layer in kept:
            if layer.shape[1] == 256:
                guided = layer[-len(tokens) :]
                maps.append(torch.stack([guided[rows, :, column] for column in tokens.unbind(1)], 1).cpu())
        kept.clear()

    unet.set_attn_processor(probe)
    handle = unet.register_forward_hook(told)
    try:
        with probe.keeping() as kept:
            yield maps
    finally:
        handle.remove()
        unet.set_attn_processor(processors)


def _order(where: Tensor) -> Tensor:
    """How far the first thing is right of the second: (B,)."""
    across: Tensor = where.unflatten(-1, (16, 16)).sum(2) @ torch.arange(16.0)
    return across[:, 0] - across[:, 1]
