"""The cast: the paper's classes, in looks that no training saw, alone and whole in pictures of their own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perfusion_registry.storybook2.cast import CAST, reference_images, reference_pages, write_references
from perfusion_registry.storybook2.grammar import NOUNS, held_out_look, is_held_out
from perfusion_registry.storybook2.world.outline import MARGIN, box
from perfusion_registry.storybook2.world.scenery import SIZE


def test_it_has_the_papers_classes() -> None:
    """Four toys, three pets, two containers, a piece of furniture and a wearable."""
    kinds = Counter(one.drawing.kind for one in CAST.values())
    assert kinds == {"toy": 4, "animal": 3, "vessel": 2, "seat": 1, "thing": 1}
    assert {one.noun for one in CAST.values()} < set(NOUNS)
    assert len({repr(one) for one in CAST.values()}) == len(CAST) == 11


@pytest.mark.parametrize("name", CAST)
def test_no_training_saw_its_look(name: str) -> None:
    one = CAST[name]
    looks = [look for look in (one.dye("main"), one.pattern) if look is not None]
    assert any(held_out_look(one.noun, look) for look in looks)
    assert all(is_held_out(page) for page in reference_pages(one))


@pytest.mark.parametrize("name", CAST)
def test_its_pictures_show_all_of_it_alone_in_several_places(name: str) -> None:
    pages = reference_pages(CAST[name])
    assert pages == reference_pages(CAST[name])
    assert len({page.scenery for page in pages}) == len(pages) == 5
    assert len({page.things[0].px for page in pages}) > 1
    for page in pages:
        (thing,) = page.things
        x1, y1, x2, y2 = box(thing)
        assert min(x1, y1) >= MARGIN
        assert max(x2, y2) <= SIZE - MARGIN
        assert y2 - y1 > SIZE / 4
    assert len({page.things[0].mirrored for page in pages}) == 2


def test_recipes_get_the_pictures_that_it_is_learned_from(tmp_path: Path) -> None:
    write_references(tmp_path, ("teapot",))
    files = sorted((tmp_path / "teapot").iterdir())
    assert [file.name for file in files] == [f"{k}.png" for k in range(1, 6)]
    for file, picture in zip(files, reference_images(CAST["teapot"]), strict=True):
        written = np.array(Image.open(file))
        assert np.array_equal(written, (picture * 255).round().byte().permute(1, 2, 0).numpy())
