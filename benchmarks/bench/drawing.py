"""What concepts cost a picture, on the embedded base: each denoising step, and a whole render."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from benchmarks.bench.turns import Pair, Row
from benchmarks.concepts import built
from benchmarks.render import WITH, WITHOUT, seconds
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.base.conditioning import Conditioning
from perfusion_registry.compose import Concept, Prompt, compose, parse_prompt
from perfusion_registry.compose.focusing import residuals
from perfusion_registry.compose.packing import pack
from perfusion_registry.storybook.judging import WORLD

NAMES = tuple(dict.fromkeys(("teddy", "teapot", *WORLD.cast)))[:8]
STEPS_AT_ONCE = 8
"""Denoising steps that are timed together: one alone is short."""
STEPS = 50
QUICK: Mapping[str, Any] = {"steps": 2, "validate_every": 2}
"""A step takes as long with a concept that was hardly trained."""


def rows() -> list[Row]:
    """Steps with 1, 2, 4 and 8 concepts and with two residuals, and a render with two concepts."""
    untouched = "the untouched pipeline's"
    steps = [
        Row(
            f"a denoising step, {count} concept{'s' * (count > 1)}",
            untouched,
            partial(_steps, NAMES[:count]),
            1.0,
        )
        for count in (1, 2, 4, 8)
    ]
    with_residuals = partial(_steps, NAMES[:2], residual=True)
    return [
        *steps,
        Row("a denoising step, 2 residuals", untouched, with_residuals, 1.03),
        Row("a render, 2 concepts and residuals, 50 steps", untouched, _renders, 1.05),
    ]


@cache
def storybook() -> Base:
    """The embedded base, on the processor."""
    return load_base(describe_base("storybook"), device="cpu")


@cache
def concept(name: str, *, residual: bool) -> Artifact:
    """A concept of the embedded base that was trained for two steps."""
    more = {} if residual else {"residual_rank": 0.0}
    return built(storybook(), name, **QUICK, **more)


@dataclass(frozen=True)
class Step:
    """What a denoising step of two branches is given. noisy: (2, c, h, w). edited, plain: encodings (2, n, d)
    with concepts, and of the same prompt without. factors: what residuals add, for `Base.attached`."""

    noisy: torch.Tensor
    edited: torch.Tensor
    plain: torch.Tensor
    factors: Any


def step_of(names: tuple[str, ...], *, residual: bool = False) -> Step:
    """A step of a prompt that names concepts of these names."""
    base = storybook()
    artifacts = {name: concept(name, residual=residual) for name in names}
    prompt = parse_prompt(" and ".join(f"a {name}*" for name in names))
    composition = compose(prompt, {name: Concept(one, "0" * 64) for name, one in artifacts.items()}, base)
    extra = residuals(base, composition, artifacts)
    prompts = [composition.parsed, Prompt(())]
    wanted, unwanted = extra.marked(pack(base, composition, artifacts, prompts), prompts)
    edited = Conditioning.joined([unwanted, wanted]).states.to(base.dtype)
    spoken = [base.tokenise([""]), base.tokenise([" and ".join(f"a {name}" for name in names)])]
    plain = base.encode(spoken, length=base.text_length).states.to(base.dtype)
    unet: Any = base.denoiser
    side = unet.config.sample_size
    noisy = torch.randn(2, unet.config.in_channels, side, side, generator=torch.Generator().manual_seed(0))
    return Step(noisy, edited, plain, extra.factors)


def denoised(unet: Any, step: Step, states: torch.Tensor) -> None:
    """Some steps of a UNet, with these encodings."""
    with torch.inference_mode():
        for _ in range(STEPS_AT_ONCE):
            unet(step.noisy, torch.tensor(500), states)


def edited(step: Step) -> None:
    """Some steps with its concepts."""
    base = storybook()
    with base.attached(step.factors):
        denoised(base.denoiser, step, step.edited)


@contextmanager
def _steps(names: tuple[str, ...], *, residual: bool = False) -> Iterator[Pair]:
    base, step = storybook(), step_of(names, residual=residual)

    yield partial(edited, step), lambda: denoised(base.denoiser, step, step.plain)


@contextmanager
def _renders() -> Iterator[Pair]:
    base = storybook()
    artifacts = {name: concept(name, residual=True) for name in NAMES[:2]}
    yield (
        lambda: 1000 * seconds(base, WITH, artifacts, 1, STEPS),
        lambda: 1000 * seconds(base, WITHOUT, {}, 1, STEPS),
    )
