"""Twelve colours in OKLCH, their shades, and how far two colours look apart."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.58, 0.21, 27),
    "orange": (0.72, 0.17, 55),
    "yellow": (0.87, 0.16, 95),
    "green": (0.62, 0.17, 145),
    "turquoise": (0.75, 0.12, 195),
    "blue": (0.55, 0.18, 258),
    "purple": (0.50, 0.18, 305),
    "pink": (0.78, 0.13, 355),
    "brown": (0.45, 0.08, 55),
    "black": (0.25, 0.01, 0),
    "white": (0.95, 0.01, 0),
    "grey": (0.62, 0.01, 0),
}
"""Lightness, chroma and hue (degrees) of each colour that captions name."""

SHADES = {"": 0.0, "dark": -0.11, "darker": -0.22, "light": 0.09, "lighter": 0.18}
"""What a shade adds to the lightness."""

_DARKEST, _LIGHTEST = 0.06, 0.985
_NAMED = 0.072  # in OKLab, how near a colour must be to one of the twelve to be called by its name

Rgb = tuple[int, int, int]


@cache
def shaded(colour: str, shade: str) -> Rgb:
    """sRGB of a named colour in a shade."""
    lightness, chroma, hue = COLOURS[colour]
    return srgb(min(max(lightness + SHADES[shade], _DARKEST), _LIGHTEST), chroma, hue)


def srgb(lightness: float, chroma: float, hue: float) -> Rgb:
    """OKLCH (hue in degrees) to sRGB in 0..255, cut to what sRGB can show (Ottosson 2020)."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )
    red, green, blue = (round(255 * _encoded(min(max(value, 0.0), 1.0))) for value in linear)
    return red, green, blue


def oklab(rgb: Rgb | NDArray[np.float32]) -> NDArray[np.float32]:
    """sRGB (..., 3) in 0..255 as OKLab (..., 3), in which distances are as large as they look."""
    encoded = np.asarray(rgb, np.float32) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ _TO_CONES.T)
    return np.asarray(cones @ _TO_LAB.T, np.float32)


@cache
def apart(a: Rgb, b: Rgb) -> float:
    """How far two colours look apart: about 0.02 is just seen, 1 is black and white."""
    return float(np.linalg.norm(oklab(a) - oklab(b)))


@cache
def name_of(rgb: Rgb) -> str | None:
    """Which of the twelve a colour is called; None where none of them is near."""
    name, distance = min(((name, apart(rgb, shaded(name, ""))) for name in COLOURS), key=lambda item: item[1])
    return name if distance < _NAMED else None


def hexadecimal(rgb: Rgb) -> str:
    """A colour as SVG writes it."""
    return "#" + "".join(f"{value:02x}" for value in rgb)


def from_hexadecimal(text: str) -> Rgb:
    """A colour that SVG writes as #rrggbb or #rgb."""
    digits = text.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)


def _encoded(value: float) -> float:
    return float(12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055)


_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)
