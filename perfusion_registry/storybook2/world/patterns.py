"""Patterns over the main colour of a thing: stripes, spots, hearts, patches and stars."""

from __future__ import annotations

from random import Random

import numpy as np
from numpy.typing import NDArray

PATTERNS = ("stripes", "spots", "hearts", "patches", "stars")
_POINT, _NOTCH = 1.12, 0.5  # radii of a star
_PERIODS = {"stripes": 15.0, "spots": 15.0, "hearts": 20.0, "stars": 22.0}


def pattern_mask(kind: str, px: int, seed: int) -> NDArray[np.float32]:
    """Where a thing of px pixels has the mark's colour, (px, px) in 0..1.

    The same seed gives the same pattern at every size, so that an individual keeps its marks.
    """
    rng = Random(seed)
    y, x = np.mgrid[:px, :px].astype(np.float32)
    unit = px / 100
    if kind == "patches":
        return _patches(x / unit, y / unit, unit, rng)
    period = unit * _PERIODS[kind]
    x, y = x + rng.random() * period, y + rng.random() * period
    if kind == "stripes":
        slope = rng.choice((0.0, 0.0, 0.6, -0.6))
        along = (slope * x + y) % period
        return _soft(period * 0.24 - np.abs(along - period / 2))
    row = np.floor(y / period)
    u, v = (x + (row % 2) * period / 2) % period - period / 2, y % period - period / 2
    if kind == "spots":
        return _soft(period * 0.29 - np.sqrt(u * u + v * v))
    u, v = u / (period * 0.36), -v / (period * 0.36)
    if kind == "hearts":
        v = v + 0.12
        return _soft(-((u * u + v * v - 1) ** 3 - u * u * v**3) * period * 0.3)
    fifth = np.pi / 5
    angle = np.abs((np.arctan2(u, v) + fifth) % (2 * fifth) - fifth)  # from the nearest point of the star
    edge = _POINT * _NOTCH * np.sin(fifth) / (_NOTCH * np.sin(fifth - angle) + _POINT * np.sin(angle))
    return _soft((edge - np.sqrt(u * u + v * v)) * period * 0.36)


def _patches(x: NDArray[np.float32], y: NDArray[np.float32], unit: float, rng: Random) -> NDArray[np.float32]:
    """A few large blots. x, y: in hundredths of the thing."""
    nearest = np.full(x.shape, -1e3, np.float32)
    for across in (18, 50, 82):
        for down in (20, 50, 80):
            if rng.random() < 0.3:
                continue
            cx, cy = across + rng.uniform(-9, 9), down + rng.uniform(-9, 9)
            rx, ry = rng.uniform(7, 13), rng.uniform(6, 11)
            inside = 1 - np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
            nearest = np.maximum(nearest, inside * 9 * unit)
    return _soft(nearest)


def _soft(inside: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 inside, 0 outside, an edge of one pixel. inside: the distance to the edge in pixels."""
    return np.asarray(np.clip(inside + 0.5, 0, 1), np.float32)
