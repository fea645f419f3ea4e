"""Whether keys say where things go: the keys of two nouns are exchanged, their values are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from perfusion_registry.storybook2.recogniser import Look, Recogniser
from perfusion_registry.storybook2.training.assembly import drawn_by
from perfusion_registry.storybook2.training.attention import Probe
from perfusion_registry.storybook2.training.encoding import tokenised
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


def nouns_of(tokenizer: CLIPTokenizer, asked: Sequence[Question]) -> Tensor:
    """The tokens (B, 2) of two nouns of one token each; -1 where a noun has several."""
    ground = tokenised(tokenizer, [question.wording for question in asked])[1]
    found = np.full((len(asked), 2), -1)
    for slot in range(2):
        own = ground == slot
        single = own.sum(1) == 1
        found[single, slot] = own[single].argmax(1)
    return torch.from_numpy(found)


@contextmanager
def keys_exchanged(unet: UNet2DConditionModel, tokens: Tensor) -> Iterator[None]:
    """Within it, keys of cross-attention are read from a prompt in which two tokens (B, 2) have changed
    places, and values from the prompt. The unguided half of a batch, which comes first, stays as it is."""

    def exchanged(module: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor]:
        states: Tensor = given[0].clone()
        rows = torch.arange(len(states) - len(tokens), len(states), device=states.device)
        first, second = tokens.to(states.device).unbind(1)
        states[rows, first], states[rows, second] = given[0][rows, second], given[0][rows, first]
        return (states,)

    handles = [
        module.to_k.register_forward_pre_hook(exchanged)
        for name, module in unet.named_modules()
        if name.rpartition(".")[2] == "attn2"
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
        how = {"steps": steps, "guidance": guidance, "seed": seed + start, "batch": batch}
        prompts = [question.prompt for question in part]
        before = drawn_by(pipe, prompts, **how)  # type: ignore[arg-type]
        with keys_exchanged(pipe.unet, tokens), attention_kept(pipe.unet, tokens) as maps:
            after = drawn_by(pipe, prompts, **how)  # type: ignore[arg-type]
        there, where = _look(recogniser, before, part)
        still, now = _look(recogniser, after, part)
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


@torch.no_grad()
def _look(recogniser: Recogniser, images: Tensor, asked: Sequence[Question]) -> tuple[Tensor, Tensor]:
    """Whether both things are there (B,), and where each is, as distributions (B, 2, 256)."""
    look: Look = recogniser.look(images)
    nouns = torch.tensor([[recogniser.labels.nouns.index(noun) for noun, _ in q.things] for q in asked])
    present = recogniser.present(look).gather(1, nouns) > 0
    return present.all(1), look.where[torch.arange(len(asked))[:, None], nouns]


def _order(where: Tensor) -> Tensor:
    """How far the first thing is right of the second: (B,)."""
    across: Tensor = where.unflatten(-1, (16, 16)).sum(2) @ torch.arange(16.0)
    return across[:, 0] - across[:, 1]
