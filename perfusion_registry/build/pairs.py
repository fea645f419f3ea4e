"""Pairs: a concept's images put into pictures of two things, so that it is known beside another thing.

Copy-paste augmentation (Ghiasi et al., CVPR 2021) without labels: the base draws "a cat next to a teapot" by
itself, its attention says where the teapot is, and the concept's image goes there. The rest of the picture
stays the base's, and is learned as such with a smaller weight: a concept is not to change what is beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.build.masks import MASK_STEPS, attention_masks
from perfusion_registry.build.sampling import draw
from perfusion_registry.methods.prompts import Prompts, unedited
from perfusion_registry.reporter import unheard

if TYPE_CHECKING:
    from perfusion_registry.base import Base

PICTURES = 2
"""Drawn of every prompt."""
BATCH = 8
"""Pictures drawn together."""
INSIDE = 0.5
"""What belongs to a thing, as a share of its mask's maximum."""
REST = 0.3
"""The weight of what is not the concept's."""


def steps_to_draw(pictures: int, steps: int) -> int:
    """How many steps so many pictures of pairs take, of `steps` each, with their masks."""
    return -(-pictures // BATCH) * (steps + MASK_STEPS)


def draw_pairs(
    base: Base,
    templates: Sequence[str],
    supercategory: str,
    shape: Sequence[int],
    *,
    seed: int,
    steps: int,
    guidance: float,
    advance: Callable[[int], None] = unheard,
) -> tuple[Tensor, Tensor]:
    """The base's own pictures of prompts that name another thing, with the plain supercategory at `{}`.

    shape: (c, h, w) of a picture's latents. Each of the T templates is drawn `PICTURES` times. Returns
    (P T, 3, H, W) in 0..1 and where the supercategory is, soft masks (P T, 1, h, w), both on the CPU, picture
    by picture in the templates' order. advance: told of `steps_to_draw` steps.
    """
    asked = [template for template in templates for _ in range(PICTURES)]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(asked), *shape, generator=generator)
    prompts = Prompts.of(base, asked, supercategory, spelled=True)
    starts = range(0, len(asked), BATCH)
    pictures = []
    with torch.no_grad(), base.attached():
        unwanted = base.without_negative(unedited(base, base.encode([base.tokenise([])])))
        for start in starts:
            wanted = unedited(base, base.encode(prompts.tokens[start : start + BATCH]))
            branches = wanted, unwanted.repeated(len(wanted))
            some = noise[start : start + BATCH]
            drawn = draw(base, *branches, some, steps=steps, guidance=guidance, advance=advance)
            pictures.append(drawn.cpu())
    texts = [asked[start : start + BATCH] for start in starts]
    places = [
        attention_masks(base, shown, supercategory, text, advance=advance)
        for shown, text in zip(pictures, texts, strict=True)
    ]
    return torch.cat(pictures), torch.cat(places)


def paste(images: Tensor, masks: Tensor, pictures: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Put the images, by turns, where the pictures show the supercategory.

    images: (N, 3, H, W) in 0..1, and masks: (N, 1, h, w), the concept in them. pictures: (M, 3, H', W'), and
    places: (M, 1, h', w'), the supercategory in them. What the concept's mask holds covers the same area as
    what the place does, stands on the same ground, and lies inside of the frame; where the place's mask
    fades, the picture stays, since something else may be in front. Returns (M, 3, H', W') and the weights
    (M, 1, H', W').
    """
    H, W = pictures.shape[-2:]
    concept = _stretched(masks, (images.shape[-2], images.shape[-1]))
    room = _stretched(places, (H, W))
    shown, weights = pictures.clone(), REST * (1 - _opaque(room))
    for m in range(len(pictures)):
        n = m % len(images)
        top, bottom, left, right = _bounds(concept[n, 0])
        ceiling, floor, west, east = _bounds(room[m, 0])
        high, wide = bottom - top, right - left
        scale = min(((floor - ceiling) * (east - west) / (high * wide)) ** 0.5, H / high, W / wide)
        h, w = max(1, int(high * scale)), max(1, int(wide * scale))
        y = min(max(floor - h, 0), H - h)
        x = min(max((west + east - w) // 2, 0), W - w)
        there = (..., slice(y, y + h), slice(x, x + w))
        part = functional.interpolate(images[n : n + 1, :, top:bottom, left:right], (h, w), mode="area")[0]
        cover = functional.interpolate(concept[n : n + 1, :, top:bottom, left:right], (h, w), mode="area")[0]
        cover = _opaque(cover) * _opaque(room[m][there])
        shown[m][there] = cover * part + (1 - cover) * shown[m][there]
        weights[m][there] += cover
    return shown, weights


def _stretched(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (N, 1, h, w) at another size, each divided by its maximum; one that shows nothing is one that
    shows all."""
    scaled = functional.interpolate(masks.float().cpu(), size, mode="bilinear")
    peak = scaled.amax((1, 2, 3), keepdim=True)
    return torch.where(torch.isfinite(peak) & (peak > 0), scaled / peak, torch.ones_like(scaled))


def _opaque(mask: Tensor) -> Tensor:
    """1 inside of the thing, fading beyond."""
    return (mask / INSIDE).clamp(0, 1)


def _bounds(mask: Tensor) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is inside. mask: (h, w), 1 at its maximum."""
    rows, columns = (mask >= INSIDE).nonzero(as_tuple=True)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1
