"""What a lone thing becomes when its noun is drawn with another noun's keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from perfusion_registry.storybook2.recogniser import Recogniser
from perfusion_registry.storybook2.training.assembly import drawn_by
from perfusion_registry.storybook2.training.keys import keys_of, look_for, nouns_of
from perfusion_registry.storybook2.training.questions import Question


@dataclass(frozen=True)
class Swapped:
    """What came of pictures of one thing that was there before, drawn with another noun's keys.

    counted: how many these are. value: in how many the thing is there still. key: in how many that of the
    other noun is there. Where both are, both count.
    """

    counted: int
    value: int
    key: int


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
        prompts = [question.prompt for question in part]
        draw = partial(
            drawn_by, pipe, prompts, steps=steps, guidance=guidance, seed=seed + start, batch=batch
        )
        rows, tokens = torch.arange(len(part)), nouns_of(pipe.tokenizer, part)[:, 0]
        states = _encodings(pipe, [question.prompt for question in there])

        def swapped(
            given: Tensor, rows: Tensor = rows, tokens: Tensor = tokens, states: Tensor = states
        ) -> Tensor:
            result = given.clone()
            result[rows, tokens] = states[rows, tokens].to(given)
            return result

        before = draw()
        with keys_of(pipe.unet, swapped):
            after = draw()
        was = look_for(recogniser, before, part)[0]
        counted += int(was.sum())
        value += int((was & look_for(recogniser, after, part)[0]).sum())
        key += int((was & look_for(recogniser, after, there)[0]).sum())
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
