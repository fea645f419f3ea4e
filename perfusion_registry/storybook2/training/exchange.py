"""What keys say: where things go, as shown by two nouns whose keys are exchanged while their values are not;
and perhaps what they are, as shown by one noun with another's keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random
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


@dataclass(frozen=True)
class Swapped:
    """What came of pictures of one thing that was there before, drawn with another noun's keys.

    counted: how many these are. value: in how many the thing is there still. key: in how many that of the
    other noun is there. Where both are, both count.
    """

    counted: int
    value: int
    key: int


def nouns_of(tokenizer: CLIPTokenizer, asked: Sequence[Question]) -> Tensor:
    """The tokens (B, k) of the k nouns of each question, where they have one token each; -1 where a noun has
    several."""
    ground = tokenised(tokenizer, [question.wording for question in asked])[1]
    things = len(asked[0].things)
    found = np.full((len(asked), things), -1)
    for slot in range(things):
        own = ground == slot
        single = own.sum(1) == 1
        found[single, slot] = own[single].argmax(1)
    return torch.from_numpy(found)


def exchanged(states: Tensor, tokens: Tensor) -> Tensor:
    """Encodings (B, n, d) in which two tokens (B, 2) have changed places."""
    rows, (first, second) = torch.arange(len(states)), tokens.unbind(1)
    result = states.clone()
    result[rows, first], result[rows, second] = states[rows, second], states[rows, first]
    return result


@contextmanager
def keys_of(unet: UNet2DConditionModel, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within it, keys of cross-attention are read from the encodings (B, n, d) that `change` makes of the
    prompts', and values from the prompts'. The unguided half of a batch, which comes first, stays as it is.
    """

    def keys(module: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor]:
        states: Tensor = given[0]
        unguided, guided = states.chunk(2)
        return (torch.cat([unguided, change(guided)]),)

    handles = [
        module.to_k.register_forward_pre_hook(keys)
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
        with keys_of(pipe.unet, partial(exchanged, tokens=tokens)), attention_kept(pipe.unet, tokens) as maps:
            after = drawn_by(pipe, prompts, **how)  # type: ignore[arg-type]
        there, where = _look(recogniser, before, part)
        still, now = _look(recogniser, after, part)
        mean = torch.stack(maps).mean(0)  # (B, 2, 256)
        own, other = (mean * where).sum(-1), (mean * where.flip(1)).sum(-1)
        counted += int(there.sum())
        attended += int((there & (other > own).all(1)).sum())
        moved += int((there & still & (_order(where) * _order(now) < 0)).sum())
    return Exchanged(counted, attended, moved)


def swap(
    pipe: StableDiffusionPipeline,
    recogniser: Recogniser,
    asked: Sequence[Question],
    *,
    steps: int = 25,
    guidance: float = 4.0,
    seed: int = 0,
    batch: int = 8,
) -> Swapped:
    """Draw the questions, of one thing each, as they are and with the keys of another noun, which is chosen
    by chance, with the same seeds."""
    counted = value = key = 0
    rng = Random(f"storybook2/swap/{seed}")
    nouns = recogniser.labels.nouns
    others = [in_place_of(question, rng.choice(nouns)) for question in asked]
    own, another = (nouns_of(pipe.tokenizer, one)[:, 0] for one in (asked, others))
    usable = [
        (question, other)
        for question, other, at, same in zip(asked, others, own, own == another, strict=True)
        if at >= 0 and same and question.things != other.things
    ]
    for start in range(0, len(usable), batch):
        part, there = zip(*usable[start : start + batch], strict=True)
        how = {"steps": steps, "guidance": guidance, "seed": seed + start, "batch": batch}
        prompts = [question.prompt for question in part]
        rows, tokens = torch.arange(len(part)), nouns_of(pipe.tokenizer, part)[:, 0]
        states = _encodings(pipe, [question.prompt for question in there])

        def swapped(
            given: Tensor, rows: Tensor = rows, tokens: Tensor = tokens, states: Tensor = states
        ) -> Tensor:
            result = given.clone()
            result[rows, tokens] = states[rows, tokens].to(given)
            return result

        before = drawn_by(pipe, prompts, **how)  # type: ignore[arg-type]
        with keys_of(pipe.unet, swapped):
            after = drawn_by(pipe, prompts, **how)  # type: ignore[arg-type]
        was = _look(recogniser, before, part)[0]
        counted += int(was.sum())
        value += int((was & _look(recogniser, after, part)[0]).sum())
        key += int((was & _look(recogniser, after, there)[0]).sum())
    return Swapped(counted, value, key)


def in_place_of(question: Question, noun: str) -> Question:
    """The question of one thing with another noun, where its own stands."""
    ((start, end, slot, kind),) = question.wording.spans
    text = question.prompt[:start] + noun + question.prompt[end:]
    wording = replace(question.wording, text=text, spans=((start, start + len(noun), slot, kind),))
    ((_, colour),) = question.things
    return replace(question, wording=wording, things=((noun, colour),))


@torch.no_grad()
def _encodings(pipe: StableDiffusionPipeline, prompts: Sequence[str]) -> Tensor:
    tokenizer = pipe.tokenizer
    told = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    encodings: Tensor = pipe.text_encoder(told.input_ids.to(pipe.device))[0]
    return encodings


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
    """Whether all k things are there (B,), and where each is, as distributions (B, k, 256)."""
    look: Look = recogniser.look(images)
    nouns = torch.tensor([[recogniser.labels.nouns.index(noun) for noun, _ in q.things] for q in asked])
    present = recogniser.present(look).gather(1, nouns) > 0
    return present.all(1), look.where[torch.arange(len(asked))[:, None], nouns]


def _order(where: Tensor) -> Tensor:
    """How far the first thing is right of the second: (B,)."""
    across: Tensor = where.unflatten(-1, (16, 16)).sum(2) @ torch.arange(16.0)
    return across[:, 0] - across[:, 1]
