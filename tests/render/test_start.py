"""Drawing from a picture, and into a mask of it: as diffusers' own pipelines do; mistakes come first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from PIL import Image

import perfusion_registry as perf
from perfusion_registry.base import Base, BaseIdentity, describe_base, load_base
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.job import RenderOverrides
from perfusion_registry.render.draw import render
from perfusion_registry.render.request import RenderRequest
from perfusion_registry.render.start import StartImage, size_for
from tests.compose.samples import on
from tests.sdxl import save_shallow_sdxl

PLAIN = "a red hat in the snow"
BASE = BaseIdentity(repo="it", architecture="stable-diffusion", family="f" * 64)


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """SDXL with one layer in each place."""
    described = describe_base(str(save_shallow_sdxl(tmp_path_factory.mktemp("base"))))
    return load_base(described, device="cpu", dtype="float32", compute_dtype="float32")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A picture of 96 x 64 and a mask whose right half is white."""
    rng = np.random.default_rng(0)
    image, mask = tmp_path / "photo.png", tmp_path / "mask.png"
    Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(image)
    halves = np.zeros((64, 96), np.uint8)
    halves[:, 48:] = 255
    Image.fromarray(halves).save(mask)
    return image, mask


def request(start: StartImage | None, **values: object) -> RenderRequest:
    said = {"width": 96, "height": 64, "steps": 4, "guidance": 3.0, "negative_prompt": "blue hat"}
    return RenderRequest.model_validate(said | {"start": start.said if start else None} | values)


def drawn(
    base: Base, prompt: str, concepts: Mapping[str, Concept], start: StartImage | None, **values: object
) -> list[np.ndarray]:
    composition = compose(parse_prompt(prompt), concepts, base)
    pictures = render(base, composition, request(start, **values), on(concepts), start=start)
    return [np.asarray(one.image) for one in pictures]


def stock(base: Base, kind: type, start: StartImage, **inputs: object) -> np.ndarray:
    parts = dict(base.pipe.components)
    alone = {"add_watermarker": False} if "XL" in kind.__name__ else {"requires_safety_checker": False}
    pipe = kind(**parts, **alone)
    pipe.scheduler = DDIMScheduler.from_config(base.pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(5)
    inputs |= {"prompt": PLAIN, "negative_prompt": "blue hat", "image": start.image}
    inputs |= {"num_inference_steps": 4, "guidance_scale": 3.0, "generator": generator}
    return np.asarray(pipe(**inputs).images[0])


def test_a_prompt_without_concepts_is_the_untouched_pipeline(
    tiny_base: Base, concepts: Mapping[str, Concept], files: tuple[Path, Path]
) -> None:
    image, mask = files
    start = StartImage.read(image, None, 0.6)
    (found,) = drawn(tiny_base, PLAIN, concepts, start, seeds=(5,))
    assert np.array_equal(found, stock(tiny_base, StableDiffusionImg2ImgPipeline, start, strength=0.6))
    masked = StartImage.read(image, mask, None)
    (found,) = drawn(tiny_base, PLAIN, concepts, masked, seeds=(5,))
    inputs = {"mask_image": masked.mask, "width": 96, "height": 64, "strength": 1.0}
    assert np.array_equal(found, stock(tiny_base, StableDiffusionInpaintPipeline, masked, **inputs))


def test_nor_is_that_of_sdxl(xl: Base, files: tuple[Path, Path]) -> None:
    image, mask = files
    start, masked = StartImage.read(image, None, 0.5), StartImage.read(image, mask, 0.8)
    (found,) = drawn(xl, PLAIN, {}, start, seeds=(5,))
    assert np.array_equal(found, stock(xl, StableDiffusionXLImg2ImgPipeline, start, strength=0.5))
    (found,) = drawn(xl, PLAIN, {}, masked, seeds=(5,))
    inputs = {"mask_image": masked.mask, "width": 96, "height": 64, "strength": 0.8}
    assert np.array_equal(found, stock(xl, StableDiffusionXLInpaintPipeline, masked, **inputs))


def test_concepts_change_what_is_drawn_anew_and_strength_how_much(
    tiny_base: Base, concepts: Mapping[str, Concept], files: tuple[Path, Path]
) -> None:
    image, mask = files
    name = next(iter(concepts))
    prompt = f"a {name}* in the snow"

    def pictures(strength: float, masked: Path | None = None) -> list[np.ndarray]:
        return drawn(
            tiny_base, prompt, concepts, StartImage.read(image, masked, strength), seeds=(1, 2), batch=2
        )

    one, other = pictures(0.5)
    assert not np.array_equal(one, other)
    (plain,) = drawn(tiny_base, PLAIN, concepts, StartImage.read(image, None, 0.5), seeds=(1,))
    assert not np.array_equal(one, plain)
    # A program's own pipeline, with the concept in its call.
    start, pipe = StartImage.read(image, None, 0.5), tiny_base.pipeline("image", scheduler="DDIMScheduler")
    with perf.composed(pipe, prompt, concepts, negative_prompt="blue hat") as call:
        generator = torch.Generator("cpu").manual_seed(1)
        more = {"num_inference_steps": 4, "guidance_scale": 3.0, "generator": generator}
        theirs = np.asarray(pipe(**call, image=start.image, strength=0.5, **more).images[0])
    (alone,) = drawn(tiny_base, prompt, concepts, start, seeds=(1,))
    assert np.abs(alone.astype(int) - theirs).max() <= 1
    inside, outside = slice(64, None), slice(0, 32)
    one, other = pictures(1.0, mask)
    apart = np.abs(one.astype(int) - other.astype(int))  # the autoencoder sees a little beyond the mask
    assert apart[:, inside].mean() > 3 * apart[:, outside].mean()


def test_a_base_for_inpainting_draws_into_masks_alone(
    tiny_base: Base, concepts: Mapping[str, Concept], files: tuple[Path, Path]
) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config({**tiny_base.pipe.unet.config, "in_channels": 9}).eval()
    pipe = StableDiffusionInpaintPipeline(
        **{**tiny_base.pipe.components, "unet": unet}, requires_safety_checker=False
    )
    base = replace(tiny_base, pipe=pipe)
    image, mask = files
    masked = StartImage.read(image, mask, 1.0)
    (found,) = drawn(base, PLAIN, concepts, masked, seeds=(5,))
    inputs = {"mask_image": masked.mask, "width": 96, "height": 64, "strength": 1.0}
    assert np.array_equal(found, stock(base, StableDiffusionInpaintPipeline, masked, **inputs))
    with pytest.raises(PerfError, match="made for inpainting"):
        drawn(base, PLAIN, concepts, None)
    with pytest.raises(PerfError, match="needs a --mask"):
        drawn(base, PLAIN, concepts, StartImage.read(image, None, 0.5))


def test_latents_of_any_number_of_channels_are_masked(
    tiny_base: Base, concepts: Mapping[str, Concept], files: tuple[Path, Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    parts = dict(tiny_base.pipe.components)
    unet = UNet2DConditionModel.from_config({**parts["unet"].config, "in_channels": 8, "out_channels": 8})
    vae = AutoencoderKL.from_config({**parts["vae"].config, "latent_channels": 8})
    parts |= {"unet": unet.eval(), "vae": vae.eval()}
    base = replace(tiny_base, pipe=StableDiffusionPipeline(**parts, requires_safety_checker=False))
    image, mask = files
    # All of a picture is masked as if there were no mask.
    Image.new("L", (96, 64), "white").save(tmp_path / "white.png")
    whole, start = StartImage.read(image, tmp_path / "white.png", 0.6), StartImage.read(image, None, 0.6)
    (found,) = drawn(base, PLAIN, concepts, whole, seeds=(5,))
    without = stock(base, StableDiffusionImg2ImgPipeline, start, strength=0.6)
    assert np.abs(found.astype(int) - without).max() <= 1
    prompt = f"a {next(iter(concepts))}* in the snow"
    one, other = drawn(base, prompt, concepts, StartImage.read(image, mask, 1.0), seeds=(1, 2), batch=2)
    apart = np.abs(one.astype(int) - other.astype(int))
    assert apart[:, 64:].mean() > 3 * apart[:, :32].mean()
    assert base.pipe.unet.config.in_channels == 8


def test_storybook_draws_into_a_mask(tmp_path: Path) -> None:
    base = load_base(describe_base("storybook"), "cpu", "float32")
    (height, width), image, mask = base.picture_size, tmp_path / "page.png", tmp_path / "mask.png"
    size = {"width": width, "height": height}
    (page,) = drawn(base, "a boat at the sea", {}, None, steps=10, **size)
    Image.fromarray(page).save(image)
    halves = np.zeros((height, width), np.uint8)
    halves[:, width // 2 :] = 255
    Image.fromarray(halves).save(mask)
    masked = StartImage.read(image, mask, None)
    (found,) = drawn(base, "a cat at the sea", {}, masked, steps=10, **size)
    apart = np.abs(found.astype(int) - page)
    assert apart[:, : width * 3 // 8].mean() < 4 < 12 < apart[:, width * 5 // 8 :].mean()


def test_mistakes_are_told_before_a_base_is_asked(files: tuple[Path, Path], tmp_path: Path) -> None:
    image, mask = files
    for wrong, what in (
        ({"mask": mask}, "--mask goes with an image"),
        ({"strength": 0.5}, "--strength goes with an image"),
        ({"image": image, "strength": 0.0}, "more than 0"),
        ({"image": image, "strength": 1.5}, "at most 1"),
    ):
        with pytest.raises(PerfError, match=what):
            RenderOverrides(**wrong)  # type: ignore[arg-type]
    tall, black, text = tmp_path / "tall.png", tmp_path / "black.png", tmp_path / "text.png"
    Image.new("L", (64, 96), "white").save(tall)
    Image.new("L", (96, 64)).save(black)
    text.write_text("no picture")
    for wrong, what in (
        ({"image": image, "mask": tall}, "The mask is 64 x 96"),
        ({"image": image, "mask": black}, "black all over"),
        ({"image": text}, "text.png|image"),
        ({"image": tmp_path / "none.png"}, "none.png|no such|not"),
    ):
        with pytest.raises(PerfError, match=what):
            RenderOverrides(**wrong).given(BASE)  # type: ignore[arg-type]


def test_its_size_is_the_bases_in_the_pictures_proportions(tiny_base: Base, tmp_path: Path) -> None:
    height, width = tiny_base.picture_size
    for sides in ((1000, 1000), (3000, 2000), (20, 60)):
        Image.new("RGB", sides, "red").save(tmp_path / "one.png")
        across, down = size_for(tiny_base, Image.open(tmp_path / "one.png"))
        assert across % tiny_base.pixels_per_latent == down % tiny_base.pixels_per_latent == 0
        assert abs(across * down / (width * height) - 1) < 0.35
        assert (across > down) == (sides[0] > sides[1])
