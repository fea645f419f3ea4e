"""Masks: the user's files first, the base's attention where there are none, ones when asked for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from perfusion_registry.base import Base, SaidOfBase, Segmenter, describe_base
from perfusion_registry.base.segment import CLIPSEG
from perfusion_registry.build.framing import square
from perfusion_registry.build.images import LoadedImage, load_image
from perfusion_registry.build.masks import MASK_SOURCES, attention_masks, find_masks
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import BaseSection
from perfusion_registry.recipe.mask_files import reads_mask_files
from perfusion_registry.recipe.options import MaskSource as Asked
from perfusion_registry.recipe.pictures import masks_beside
from perfusion_registry.reporter import Silent
from perfusion_registry.resolve.images import find_images
from tests.base.test_segment import clipseg as clipseg

SIZE = (64, 64)


class Told(Silent):
    """A reporter that remembers its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Two photographs, the first with a mask of its upper half beside it."""
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(noise).resize(SIZE).save(tmp_path / f"{seed}.jpg")
    mask = Image.new("L", SIZE)
    mask.paste(128, (0, 0, 64, 32))
    mask.save(tmp_path / "0.mask.png")
    return [tmp_path / "0.jpg", tmp_path / "1.jpg"]


def loaded(photos: list[Path]) -> list[LoadedImage]:
    return [load_image(path) for path in photos]


def mask_file(photo: Path) -> Path | None:
    return masks_beside([photo])[0]


def test_a_mask_file_is_the_mask(tiny_base: Base, photos: list[Path]) -> None:
    one = photos[:1]
    for source in ("auto", "files"):
        masks = find_masks(tiny_base, loaded(one), [mask_file(one[0])], "teddy", source, SIZE, Silent())  # type: ignore[arg-type]
        assert masks.shape == (1, 1, *SIZE)
        assert masks[0, 0, :, 5].tolist() == pytest.approx([128 / 255] * 32 + [0] * 32)


def test_files_that_are_asked_for_and_missing_are_named(tiny_base: Base, photos: list[Path]) -> None:
    files = [mask_file(path) for path in photos]
    with pytest.raises(PerfError, match="no mask") as caught:
        find_masks(tiny_base, loaded(photos), files, "teddy", "files", SIZE, Silent())
    assert caught.value.where == str(photos[1])


def test_auto_says_when_it_cannot_use_the_files(tiny_base: Base, photos: list[Path]) -> None:
    told, files = Told(), [mask_file(path) for path in photos]
    masks = find_masks(tiny_base, loaded(photos), files, "teddy", "auto", SIZE, told)
    assert len(masks) == 2
    assert "1.jpg" in " ".join(told.warnings)


def test_a_mask_outside_the_middle_square_is_refused(tiny_base: Base, tmp_path: Path) -> None:
    Image.new("RGB", (120, 40), "red").save(tmp_path / "wide.png")
    mask = Image.new("L", (120, 40))
    mask.paste(255, (0, 0, 20, 40))
    mask.save(tmp_path / "wide.mask.png")
    image = load_image(tmp_path / "wide.png")
    with pytest.raises(PerfError, match="middle square"):
        find_masks(tiny_base, [image], [tmp_path / "wide.mask.png"], "teddy", "files", SIZE, Silent())


def test_a_segmenter_that_the_base_table_names_is_taken_before_the_usual_one(
    tiny_base: Base, tiny_base_folder: Path, photos: list[Path], clipseg: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(clipseg, tmp_path / "segmenter")
    section = BaseSection(segmenter=str(own))
    described = describe_base(str(tiny_base_folder), said=SaidOfBase(section, tmp_path, "perfusion.toml"))
    base = replace(tiny_base, description=described)
    pixels = torch.stack([square(image.pixels, SIZE) for image in loaded(photos)])
    expected = Segmenter.load(clipseg).masks(pixels, "teddy")[:, None]
    masks = find_masks(base, loaded(photos), [None, None], "teddy", "auto", SIZE, Silent())
    assert torch.allclose(masks, expected, atol=1e-6)
    (own / "model.safetensors").write_bytes(b"")
    with pytest.raises(PerfError, match="segmentation model"):  # no other is taken in its place in silence
        find_masks(base, loaded(photos), [None, None], "teddy", "auto", SIZE, Silent())


def test_clipseg_is_asked_where_it_is_at_hand_and_there_are_no_files(
    tiny_base: Base, photos: list[Path], clipseg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.stack([square(image.pixels, SIZE) for image in loaded(photos)])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("PERF_ALLOW_DOWNLOAD", raising=False)
    with pytest.raises(PerfError, match="not on this machine"):
        find_masks(tiny_base, loaded(photos), [None, None], "teddy", "clipseg", SIZE, Silent())
    seen = find_masks(tiny_base, loaded(photos), [None, None], "teddy", "auto", SIZE, Silent())
    assert torch.equal(seen, attention_masks(tiny_base, pixels, "teddy"))

    model = tmp_path / "hub" / f"models--{CLIPSEG.replace('/', '--')}"
    shutil.copytree(clipseg, model / "snapshots" / ("0" * 40))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0" * 40)
    expected = Segmenter.load(clipseg).masks(pixels, "teddy")[:, None]
    for source in ("clipseg", "auto"):
        found = find_masks(tiny_base, loaded(photos), [None, None], "teddy", source, SIZE, Silent())  # type: ignore[arg-type]
        assert torch.allclose(found, expected, atol=1e-6)


def test_the_table_is_what_recipes_can_ask_for() -> None:
    assert {"auto", *MASK_SOURCES} == {*get_args(Asked)}
    assert {name for name in get_args(Asked) if reads_mask_files(name)} == {"auto", "files"}


@pytest.mark.parametrize("name", ["0.mask.png", "0_MASK.JPG", "0-mask.webp"])
def test_a_program_finds_the_masks_that_the_command_line_finds(photos: list[Path], name: str) -> None:
    photos[0].with_name("0.mask.png").rename(photos[0].with_name(name))
    found = find_images(photos[0].parent, ["*.jpg"], [], where="recipe")
    assert {image.path: image.mask for image in found} == {photo: mask_file(photo) for photo in photos}
    assert mask_file(photos[0]) == photos[0].with_name(name)


def test_none_weighs_every_place_alike(tiny_base: Base, photos: list[Path]) -> None:
    masks = find_masks(tiny_base, loaded(photos), [None, None], "teddy", "none", SIZE, Silent())
    assert torch.equal(masks, torch.ones(2, 1, *SIZE))


def test_attention_masks_are_repeatable_and_follow_the_word(tiny_base: Base, photos: list[Path]) -> None:
    pixels = torch.stack([square(image.pixels, SIZE) for image in loaded(photos)])
    processors = dict(tiny_base.pipe.unet.attn_processors)
    first = attention_masks(tiny_base, pixels, "teddy")
    torch.manual_seed(7)
    assert torch.equal(first, attention_masks(tiny_base, pixels, "teddy"))
    assert not torch.allclose(first, attention_masks(tiny_base, pixels, "teapot"))
    assert not torch.allclose(first[0], first[1])
    assert first.amin((1, 2, 3)).tolist() == [0, 0]
    assert first.amax((1, 2, 3)).tolist() == [1, 1]
    assert tiny_base.pipe.unet.attn_processors == processors
    # A picture's mask does not depend on the pictures beside it.
    assert torch.allclose(attention_masks(tiny_base, pixels[1:], "teddy"), first[1:], atol=1e-4)
