"""The embedded base as it ships: a standard diffusers folder that draws what it is asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from perfusion_registry.base import describe_base, load_base
from perfusion_registry.base.loading import Base
from perfusion_registry.build import gate_report, load_covariance
from perfusion_registry.compose import compose, parse_prompt
from perfusion_registry.render import RenderRequest, render
from perfusion_registry.storybook.measure import draw
from perfusion_registry.storybook.recogniser import Recogniser
from perfusion_registry.storybook.training.autoencoder import psnr
from perfusion_registry.storybook.world import CATEGORIES, Page, draw_page, paint
from tests.storybook.test_training import some_pages

pytestmark = pytest.mark.slow
LIMIT = 60_000_000


@pytest.fixture(scope="module")
def folder() -> Path:
    return describe_base("storybook").folder


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(describe_base("storybook"), "cpu", "float32")


def test_all_of_it_is_small(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= LIMIT


def test_the_stock_pipeline_opens_it(folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a teddy", num_inference_steps=1, output_type="pt").images
    assert image.shape == (1, 3, 128, 128)


def test_it_is_drawn_as_the_stock_pipeline_draws_it(base: Base) -> None:
    """Guidance, steps and schedule are those that its card was measured with, and nothing beside them."""
    request = RenderRequest(seeds=(5,), steps=4, guidance=4.0, width=128, height=128)
    ((drawn),) = render(base, compose(parse_prompt("a teddy in the snow"), {}, base), request, {})
    pipe = base.pipeline(scheduler="DDIMScheduler")
    how = {"num_inference_steps": 4, "guidance_scale": 4.0, "width": 128, "height": 128}
    expected = pipe("a teddy in the snow", generator=[torch.Generator().manual_seed(5)], **how).images[0]
    assert (np.asarray(drawn.image) == np.asarray(expected)).all()


def test_it_draws_every_category(base: Base, folder: Path) -> None:
    prompts = [f"a photo of a {category}" for category in CATEGORIES for _ in range(2)]
    images = draw(base.pipe, prompts, steps=8, guidance=4.0, seed=5)
    found = Recogniser.load(folder / "recogniser.safetensors").recognise(images)
    right = [bool(found.present[row, row // 2] > 0.5) for row in range(len(prompts))]
    assert sum(right) >= 13, dict(zip(prompts, right, strict=True))


def test_its_autoencoder_keeps_individuals(base: Base) -> None:
    pages: list[Page] = some_pages(16)
    images = paint([draw_page(page) for page in pages], [page.style for page in pages]).images
    with base.autocast():
        assert psnr(base.pipe.vae, images) > 26


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


def test_its_recogniser_knows_drawn_pages(folder: Path) -> None:
    recogniser = Recogniser.load(folder / "recogniser.safetensors")
    pages = [page for page in some_pages(100) if page.style is None]
    found = recogniser.recognise(paint([draw_page(page) for page in pages]).images)
    right = [
        all(bool(found.present[row, CATEGORIES.index(one.category)] > 0.5) for one in page.subjects)
        for row, page in enumerate(pages)
    ]
    assert torch.tensor(right).float().mean() > 0.95
