"""Hands: the same page as different illustrators would paint it, all by code over the same drawings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]

HANDS = ("flat", "outlined", "soft", "watercolour", "pencil", "night light")
"""The hands that trainings see. `flat` is that of the drawings themselves."""
UNSEEN = "paper"
"""The hand that no training sees, for concepts in a hand that the base does not know."""


def in_hand(hand: str, canvas: Floats, cover: Floats, seed: int) -> Floats:
    """The page in a hand. canvas: (h, w, 3) in 0..255, flat. cover: (h, w) in 0..1, where things are."""
    if hand == "flat":
        return canvas
    return np.clip(_PAINTERS[hand](canvas, cover, np.random.default_rng(seed)), 0, 255)


def _outlined(canvas: Floats, cover: Floats, rng: np.random.Generator) -> Floats:
    """Dark lines round every shape of the things, fainter ones behind."""
    few = _without_specks(canvas)
    lines = _edges(few)
    own = np.clip((lines - 22) / 40, 0, 1)
    rim = np.clip(_edges(cover[..., None] * 255) / 120, 0, 1)
    strength = np.maximum(np.maximum(own * cover, rim), 0.35 * np.clip((lines - 40) / 60, 0, 1) * (1 - cover))
    strength = np.clip(_blurred(strength, 0.6) * 1.5, 0, 1)[..., None]
    paper = canvas + (255 - canvas) * 0.12
    drawn = paper * (1 - strength) + 26 * strength
    # The lights in eyes, and the eyes' whites, are smaller than a line is wide: they are put back.
    specks = np.clip(((canvas - few).min(-1) - 50) / 60, 0, 1)[..., None]
    return np.asarray(drawn * (1 - specks) + canvas * specks, np.float32)


def _soft(canvas: Floats, cover: Floats, rng: np.random.Generator) -> Floats:
    """Things as if they were modelled: light from above at the left, a shadow beside."""
    height = _blurred(cover, 9)
    light = 2.4 * (np.roll(height, -4, (0, 1)) - np.roll(height, 4, (0, 1)))
    form = 1 + np.clip(light, -0.42, 0.3) * cover
    shade = 1 - 0.34 * np.clip(np.roll(_blurred(cover, 8), (9, 9), (0, 1)) - cover, 0, 1)
    behind = _blurred3(canvas, 1.6)
    mixed = behind * (1 - cover[..., None]) + canvas * cover[..., None]
    return np.asarray(mixed * (form * shade)[..., None], np.float32)


def _watercolour(canvas: Floats, cover: Floats, rng: np.random.Generator) -> Floats:
    """Washes on paper: uneven, lighter, darker where a wash ends."""
    pigment = 255 - _blurred3(canvas, 0.8)
    wash = 0.80 + 0.26 * _noise(rng, 7, cover.shape) + 0.08 * _noise(rng, 30, cover.shape)
    rim = np.clip(_edges(_blurred3(canvas, 0.8)) / 130, 0, 0.5)
    grain = 1 + 0.02 * rng.standard_normal(cover.shape).astype(np.float32)
    dried = pigment * (wash * grain + 0.5 * rim)[..., None]
    return np.asarray(253 - dried * 0.86, np.float32)


def _pencil(canvas: Floats, cover: Floats, rng: np.random.Generator) -> Floats:
    """Strokes of coloured pencil on white paper, with outlines."""
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]].astype(np.float32)
    wobble = 5 * _noise(rng, 10, cover.shape)
    strokes = 0.5 + 0.5 * np.sin((x + 0.9 * y) * 1.05 + wobble)
    strokes = 0.6 + 0.4 * strokes * (0.75 + 0.5 * rng.random(cover.shape, np.float32))
    pigment = (255 - canvas) * (0.62 + 0.38 * cover[..., None])
    lines = np.clip((_edges(_without_specks(canvas)) - 26) / 60, 0, 0.75) * (0.45 + 0.55 * cover)
    drawn = 252 - pigment * strokes[..., None]
    return np.asarray(drawn * (1 - lines[..., None]) + 70 * lines[..., None], np.float32)


def _night_light(canvas: Floats, cover: Floats, rng: np.random.Generator) -> Floats:
    """A dark room in which the things glow."""
    dark = canvas * np.array([0.22, 0.24, 0.42], np.float32)
    glow = np.clip(_blurred(cover, 22) * 1.5, 0, 1)[..., None]
    lit = dark + glow * np.array([92, 66, 30], np.float32)
    bright = np.minimum(canvas * np.array([1.02, 0.97, 0.86], np.float32) + 6, 255)
    return np.asarray(lit * (1 - cover[..., None]) + bright * cover[..., None], np.float32)


def _paper(canvas: Floats, cover: Floats, rng: np.random.Generator) -> Floats:
    """Cut out of paper, with a white rim and a shadow."""
    grown = np.clip(_blurred(np.where(cover > 0.05, 1, 0).astype(np.float32), 2.2) * 4, 0, 1)
    shadow = np.clip(np.roll(_blurred(grown, 3), (6, 5), (0, 1)) - grown, 0, 1)
    few = np.round(canvas / 40) * 40
    behind = (few * 0.8 + 46) * (1 - 0.5 * shadow[..., None])
    cut = behind * (1 - grown[..., None]) + 250 * grown[..., None]
    pasted = cut * (1 - cover[..., None]) + canvas * cover[..., None]
    grain = 1 + 0.035 * rng.standard_normal(cover.shape).astype(np.float32)
    return np.asarray(pasted * grain[..., None], np.float32)


_PAINTERS: dict[str, Callable[[Floats, Floats, np.random.Generator], Floats]] = {
    "outlined": _outlined,
    "soft": _soft,
    "watercolour": _watercolour,
    "pencil": _pencil,
    "night light": _night_light,
    UNSEEN: _paper,
}


def _without_specks(canvas: Floats) -> Floats:
    """A picture (h, w, 3) without what is smaller than some three pixels, its edges as sharp as before."""
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.MedianFilter(5)), np.float32)


def _edges(canvas: Floats) -> Floats:
    """How much the colour changes from pixel to pixel (h, w)."""
    across = np.abs(np.diff(canvas, axis=1, prepend=canvas[:, :1])).max(-1)
    down = np.abs(np.diff(canvas, axis=0, prepend=canvas[:1])).max(-1)
    return np.asarray(np.maximum(across, down), np.float32)


def _blurred(field: Floats, radius: float) -> Floats:
    """A field (h, w) in 0..1, blurred."""
    image = Image.fromarray(np.clip(field * 255, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / np.float32(255)


def _blurred3(canvas: Floats, radius: float) -> Floats:
    """A picture (h, w, 3) in 0..255, blurred."""
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32)


def _noise(rng: np.random.Generator, cells: int, shape: tuple[int, ...]) -> Floats:
    """Smooth noise (h, w) in 0..1 of so many cells along a side."""
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    smooth = coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(smooth, np.float32) / np.float32(255)
