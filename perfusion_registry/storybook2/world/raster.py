"""Rasters of drawings, made once for all colours.

Painting over is linear in the colours as long as no shape moves. So a drawing is rasterised with one class in
red, one in green, one in blue and everything else black: the channels are the *weights* of these classes, how
much of each pixel's colour is theirs. A drawing in any colours is then one small matrix product. Things are
rasterised at one size, larger than any page shows them, and reduced from there.
"""

from __future__ import annotations

import io
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from perfusion_registry.storybook2.world.colours import Rgb, hexadecimal
from perfusion_registry.storybook2.world.drawing import Drawing, alone, around, restyled, role_of, without

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

CACHE_BYTES = 900 * 2**20
LARGEST = 256
"""Pixels that things are rasterised at."""
_PAINT = re.compile(r'(fill|stroke)="#[0-9a-fA-F]{3,6}"')
_CLASS = re.compile(r'class="((?:main|second|third)[a-z-]*)"')
_PURE: tuple[Rgb, Rgb, Rgb] = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
_BLACK: Rgb = (0, 0, 0)


@dataclass(frozen=True)
class Variant:
    """Which groups of a drawing are painted. layer: `whole`, or `back` and `front`, what is behind and before
    the one who stands inside. left_out: ids of groups that are not painted."""

    layer: str = "whole"
    left_out: tuple[str, ...] = ()


WHOLE = Variant()


@dataclass(frozen=True)
class Stack:
    """A drawing at one size, in no colours yet, cut to what is painted.

    x, y: of its corner in the drawing's square of px pixels. classes: K names. weights: (h, w, K) uint8.
    fixed: (h, w, 3) uint8, the colours that never change, times the coverage. alpha: (h, w) uint8, the
    coverage. parts: (h, w) uint8 of each nameable part that is a group of its own.
    """

    x: int
    y: int
    classes: tuple[str, ...]
    weights: Bytes
    fixed: Bytes
    alpha: Bytes
    parts: Mapping[str, Bytes]

    @property
    def size(self) -> int:
        """In bytes."""
        arrays = [self.weights, self.fixed, self.alpha, *self.parts.values()]
        return sum(array.nbytes for array in arrays)


def rasterised(svg: str, width: int, height: int | None = None) -> Bytes:
    """An SVG as (height, width, 4) uint8, colours not multiplied by the coverage."""
    import resvg_py  # an extra: who only judges pictures draws none

    size = f'<svg width="{width}" height="{height or width}" '
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg.replace("<svg ", size, 1)))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


class Rasters:
    """Stacks that were made already, as many as fit into `limit` bytes; those longest unused go first."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._used = 0
        self._stacks: OrderedDict[object, Stack | None] = OrderedDict()

    def stack(self, drawing: Drawing, px: int, variant: Variant = WHOLE) -> Stack | None:
        """A drawing at px pixels; None where the variant paints nothing."""

        def made() -> Stack | None:
            if px == LARGEST:
                return thing_stack(drawing, px, variant)
            largest = self.stack(drawing, LARGEST, variant)
            return None if largest is None else reduced(largest, LARGEST, px)

        return self._kept((drawing.name, px, variant), made)

    def place(self, drawing: Drawing, height: int, layer: str, left_out: tuple[str, ...]) -> Stack | None:
        """A place as high as the page and 1.4 times as wide. layer: `near` of what lies before the feet of
        things, `rest` of all else."""
        key = ("place", drawing.name, height, layer, left_out)
        return self._kept(key, lambda: place_stack(drawing, height, layer, left_out))

    def _kept(self, key: object, make: Callable[[], Stack | None]) -> Stack | None:
        if key in self._stacks:
            self._stacks.move_to_end(key)
            return self._stacks[key]
        stack = make()
        self._stacks[key] = stack
        self._used += stack.size if stack else 0
        while self._used > self._limit and len(self._stacks) > 1:
            _, oldest = self._stacks.popitem(last=False)
            self._used -= oldest.size if oldest else 0
        return stack


def reduced(stack: Stack, before: int, px: int) -> Stack | None:
    """A stack of a square of `before` pixels at px pixels; None where nothing of it is left."""

    def scaled(plane: Bytes) -> Bytes:
        square = np.zeros((before, before), np.uint8)
        square[stack.y : stack.y + plane.shape[0], stack.x : stack.x + plane.shape[1]] = plane
        return np.asarray(Image.fromarray(square).resize((px, px), Image.Resampling.HAMMING))

    alpha = scaled(stack.alpha)
    box = _painted(alpha)
    if box is None:
        return None
    planes = [scaled(stack.weights[..., k])[box] for k in range(len(stack.classes))]
    return Stack(
        box[1].start,
        box[0].start,
        stack.classes,
        np.stack(planes, -1) if planes else np.zeros((*alpha[box].shape, 0), np.uint8),
        np.stack([scaled(stack.fixed[..., k])[box] for k in range(3)], -1),
        np.ascontiguousarray(alpha[box]),
        {part: np.ascontiguousarray(scaled(mask)[box]) for part, mask in stack.parts.items()},
    )


def _painted(alpha: Bytes) -> tuple[slice, slice] | None:
    """The smallest box in which something is painted."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def thing_stack(drawing: Drawing, px: int, variant: Variant = WHOLE) -> Stack | None:
    """A drawing rasterised at px pixels; None where the variant paints nothing."""
    svg: str | None = drawing.svg
    for group in variant.left_out:
        svg = without(svg or "", group)
    if variant.layer == "front":
        svg = alone(svg or "", "front")
    elif variant.layer == "back":
        svg = without(svg or "", "front")
    return None if svg is None else _stack(svg, px, px, tuple(drawing.parts))


def place_stack(drawing: Drawing, height: int, layer: str, left_out: tuple[str, ...]) -> Stack | None:
    """A place, rasterised (see `Rasters.place`)."""
    svg: str | None = drawing.svg
    for group in left_out:
        svg = without(svg or "", group)
    svg = alone(svg or "", "near") if layer == "near" else without(svg or "", "near")
    return None if svg is None else _stack(svg, height * 7 // 5, height, ())


def part_mask(stack: Stack, part: str, role: str) -> Bytes:
    """What is seen of a part (h, w): of its group, or of its role where it has no group of its own."""
    if part in stack.parts:
        return stack.parts[part]
    own = [k for k, name in enumerate(stack.classes) if role_of(name) == role]
    return np.asarray(stack.weights[..., own].sum(-1, dtype=np.uint16).clip(0, 255), np.uint8)


def dyed(stack: Stack, colours: Mapping[str, Rgb]) -> Floats:
    """The stack in colours by class: (h, w, 3) in 0..255, times the coverage."""
    fixed = stack.fixed.astype(np.float32)
    if not stack.classes:
        return fixed
    palette = np.array([colours[name] for name in stack.classes], np.float32) / 255
    return np.asarray(fixed + stack.weights.astype(np.float32) @ palette, np.float32)


def _stack(svg: str, width: int, height: int, parts: Sequence[str]) -> Stack | None:
    classes = tuple(sorted(set(_CLASS.findall(svg))))
    whole = rasterised(restyled(svg, _style(classes, {})), width, height)
    alpha = whole[..., 3]
    box = _painted(alpha)
    if box is None:
        return None
    planes: list[Bytes] = []
    unpainted = _PAINT.sub(r'\1="#000"', svg)
    for start in range(0, len(classes), 3):
        three = classes[start : start + 3]
        style = _style(classes, dict(zip(three, _PURE, strict=False)))
        shown = _premultiplied(rasterised(restyled(unpainted, style), width, height)[box])
        planes += [shown[..., channel] for channel in range(len(three))]
    h, w = alpha[box].shape
    masks = {part: _part(unpainted, part, classes, width, height, box) for part in parts}
    return Stack(
        box[1].start,
        box[0].start,
        classes,
        np.stack(planes, -1) if planes else np.zeros((h, w, 0), np.uint8),
        _premultiplied(whole[box]),
        np.ascontiguousarray(alpha[box]),
        {part: mask for part, mask in masks.items() if mask is not None and mask.any()},
    )


def _part(
    svg: str, part: str, classes: Sequence[str], width: int, height: int, box: tuple[slice, slice]
) -> Bytes | None:
    """What is seen of a part: its group in white, all else in black."""
    pieces = around(svg, part)
    if pieces is None:
        return None
    before, group, after = pieces
    group = _CLASS.sub(r'class="part-\1"', group).replace('"#000"', '"#fff"')
    white = "".join(f".part-{name}{{{_property(name)}:#fff}}" for name in classes)
    shown = rasterised(restyled(before + group + after, _style(classes, {}) + white), width, height)[box]
    return np.ascontiguousarray(_premultiplied(shown)[..., 0])


def _style(classes: Sequence[str], colours: Mapping[str, Rgb]) -> str:
    """A style block in which classes without a colour are black."""
    rules = ((name, hexadecimal(colours.get(name, _BLACK))) for name in classes)
    return "".join(f".{name}{{{_property(name)}:{colour}}}" for name, colour in rules)


def _property(name: str) -> str:
    return "stroke" if name.endswith("-line") else "fill"


def _premultiplied(rgba: Bytes) -> Bytes:
    """(h, w, 4) as (h, w, 3), times the coverage."""
    scaled = rgba[..., :3].astype(np.uint16) * rgba[..., 3:].astype(np.uint16)
    return np.ascontiguousarray(((scaled + 127) // 255).astype(np.uint8))
