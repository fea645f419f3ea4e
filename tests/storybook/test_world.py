"""The drawn world: what is painted is what was meant, however it is batched."""

import math
from dataclasses import replace
from random import Random

import pytest
import torch

from perfusion_registry.storybook.world import CATEGORIES, Individual, Page, draw_page, paint
from perfusion_registry.storybook.world.shape import Backdrop, box, ellipse

WHITE = Backdrop(((1.0, 1.0, 1.0), (1.0, 1.0, 1.0)), 1.2)
BLACK = (0.0, 0.0, 0.0)


def pages(count: int, seed: int = 0) -> list[Page]:
    rng = Random(seed)
    return [Page.sample(rng) for _ in range(count)]


@pytest.mark.parametrize(("hx", "hy", "angle"), [(0.5, 0.5, 0.0), (0.7, 0.3, 0.0), (0.6, 0.2, 0.7)])
def test_ellipse_covers_the_points_inside_it(hx: float, hy: float, angle: float) -> None:
    size = 96
    canvas = paint([(WHITE, [ellipse(0.1, -0.05, hx, hy, BLACK, angle=angle, owner=1)])], size=size)
    wrong = 0
    for row in range(size):
        for column in range(size):
            x, y = (column + 0.5) / (size / 2) - 1 - 0.1, (row + 0.5) / (size / 2) - 1 + 0.05
            u = math.cos(angle) * x + math.sin(angle) * y
            v = math.cos(angle) * y - math.sin(angle) * x
            inside = (u / hx) ** 2 + (v / hy) ** 2 < 1
            wrong += inside != bool(canvas.owners[0, row, column] == 1)
    assert wrong <= 0.004 * size * size  # only points on the edge may differ


def test_box_has_its_area_and_a_tapered_one_half_of_it() -> None:
    plain = paint([(WHITE, [box(0, 0, 0.5, 0.4, BLACK, rounding=0, owner=1)])]).owners
    pointed = paint([(WHITE, [box(0, 0, 0.5, 0.4, BLACK, rounding=0, taper=1, owner=1)])]).owners
    assert (plain == 1).float().mean().item() == pytest.approx(0.5 * 0.4, rel=0.03)
    assert (pointed == 1).float().mean().item() == pytest.approx(0.5 * 0.4 / 2, rel=0.08)


def test_later_shapes_hide_earlier_ones() -> None:
    canvas = paint([(WHITE, [box(0, 0, 0.5, 0.5, BLACK, owner=1), box(0, 0, 0.5, 0.5, BLACK, owner=2)])])
    assert set(canvas.owners.unique().tolist()) == {0, 2}


def test_a_picture_does_not_depend_on_its_batch() -> None:
    batch = pages(12)
    together = paint([draw_page(page) for page in batch])
    for k, page in enumerate(batch):
        alone = paint([draw_page(page)])
        assert torch.equal(alone.images[0], together.images[k])
        assert torch.equal(alone.owners[0], together.owners[k])


def test_a_page_is_drawn_the_same_twice_and_another_seed_differs() -> None:
    page = pages(1)[0]
    first, again = (paint([draw_page(page)]).images for _ in range(2))
    other = paint([draw_page(replace(page, seed=page.seed + 1))]).images
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_category_is_large_and_whole_in_the_frame() -> None:
    for category in CATEGORIES:
        one = Individual(category, "red", "blue", "green")
        owners = paint([draw_page(Page((one,), None, None, None, seed)) for seed in range(6)]).owners == 1
        assert owners.float().mean((1, 2)).min() > 0.06, category
        border = torch.cat([owners[:, 0], owners[:, -1], owners[:, :, 0], owners[:, :, -1]], 1)
        assert border.float().mean() < 0.03, category


def test_both_subjects_of_a_pair_can_be_seen() -> None:
    pairs = [page for page in pages(300) if page.relation][:80]
    owners = paint([draw_page(page) for page in pairs]).owners
    for subject in (1, 2):
        assert ((owners == subject).float().mean((1, 2)) > 0.012).all()


def test_size_does_not_change_the_drawing() -> None:
    drawings = [draw_page(page) for page in pages(8) if page.style is None]
    small, large = paint(drawings, size=64).images, paint(drawings, size=128).images
    halved = torch.nn.functional.avg_pool2d(large, 2)
    assert (small - halved).abs().mean() < 0.012


def test_watercolor_shows_paper_at_the_border() -> None:
    page = replace(pages(1)[0], style="watercolor", scene="at night")
    image = paint([draw_page(page)], ["watercolor"]).images[0]
    assert image[:, 0, 0].min() > 0.85
