"""The embedded base as it ships, of whichever edition: a diffusers folder that draws what it is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.build import gate_report, load_covariance
from perfusion_registry.compose import compose, parse_prompt
from perfusion_registry.evaluate.budget import spread
from perfusion_registry.render import RenderRequest, render
from perfusion_registry.storybook.judging import WORLD
from perfusion_registry.worlds import Subject, WorldJudge

pytestmark = pytest.mark.slow
LIMIT = 60_000_000
"""Bytes of all that draws; what judges and segments comes beside it."""
KINDS = spread(WORLD.kinds, 8)


@pytest.fixture(scope="module")
def folder() -> Path:
    return describe_base("storybook").folder


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(describe_base("storybook"), "cpu", "float32")


@pytest.fixture(scope="module")
def judge() -> WorldJudge:
    return WORLD.judge("storybook")


def seen(judge: WorldJudge, base: Base, word: str, images: Tensor) -> list[float]:
    """Of each picture, whether its judge sees a thing of that word; 1 or 0."""
    one, text = [Subject(word, None)], f"a photo of a {word}"
    rows = judge.scores(text, one, images, ("category",), base=lambda: base, recall=lambda _, make: make())
    return [row["category"] for row in rows]


def test_all_of_it_is_small(folder: Path) -> None:
    parts = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    files = (file for part in parts for file in (folder / part).iterdir())
    assert sum(file.stat().st_size for file in files) <= LIMIT


def test_the_stock_pipeline_opens_it(folder: Path, base: Base) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a teddy", num_inference_steps=1, output_type="pt").images
    assert image.shape == (1, 3, *base.picture_size)


def test_it_is_drawn_as_the_stock_pipeline_draws_it(base: Base) -> None:
    """Guidance, steps and schedule are those that its card was measured with, and nothing beside them."""
    height, width = base.picture_size
    request = RenderRequest(seeds=(5,), steps=4, guidance=4.0, width=width, height=height)
    ((drawn),) = render(base, compose(parse_prompt("a teddy in the snow"), {}, base), request, {})
    pipe = base.pipeline(scheduler="DDIMScheduler")
    how = {"num_inference_steps": 4, "guidance_scale": 4.0, "width": width, "height": height}
    expected = pipe("a teddy in the snow", generator=[torch.Generator().manual_seed(5)], **how).images[0]
    assert (np.asarray(drawn.image) == np.asarray(expected)).all()


def test_it_draws_things_of_every_kind(base: Base, judge: WorldJudge) -> None:
    """Two pictures of each of eight kinds, of whose words the judge sees the thing."""
    pipe = base.pipeline(scheduler="DDIMScheduler")
    right = {}
    for number, word in enumerate(KINDS):
        chances = [torch.Generator().manual_seed(5 + 2 * number + k) for k in range(2)]
        with base.autocast():
            images = pipe(
                [f"a photo of a {word}"] * 2, num_inference_steps=8, guidance_scale=4.0,
                generator=chances, output_type="pt",
            ).images.float()  # fmt: skip
        right[word] = sum(seen(judge, base, word, images))
    assert sum(right.values()) >= 13, right


def test_its_autoencoder_keeps_individuals(base: Base) -> None:
    images = torch.cat([pictures for _, pictures in WORLD.sets(8, 2)])
    error = (base.reconstructed(images) - images).square().mean((1, 2, 3))
    assert float((-10 * error.log10()).mean()) > 26


def test_its_covariance_opens_gates_at_the_concept_alone(base: Base, folder: Path) -> None:
    covariance = load_covariance(folder / "covariance.safetensors", width=base.bank.W.shape[1])
    assert covariance.card.captions >= 100_000
    prompts = [
        "a photo of a {} in the snow",
        "a {} sailing in a teapot",
        "a {} wearing a wizard hat by the fire",
    ]
    rows = gate_report(base, {"all": covariance}, "teddy", prompts)
    concept = [row.similarity["all"] for row in rows if row.kind == "concept"]
    others = [row.similarity["all"] for row in rows if row.kind != "concept"]
    assert min(concept) > 0.65
    assert max(others) < 0.6


def test_its_recogniser_knows_drawn_pages(base: Base, judge: WorldJudge) -> None:
    told = [share for word, pictures in WORLD.sets(64, 1) for share in seen(judge, base, word, pictures)]
    assert sum(told) > 0.95 * len(told)
