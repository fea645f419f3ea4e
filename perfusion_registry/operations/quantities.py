"""Ages, sizes of files and sizes of pictures, as people write them."""

from __future__ import annotations

import re

from perfusion_registry.errors import PerfError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}


def seconds(text: str) -> float:
    """An age such as `30d` in seconds."""
    parts = re.fullmatch(r"\s*(\d{1,6})\s*([smhdw])\s*", text.lower())
    if parts is None:
        raise PerfError(
            f"`{text}` is no age", where="--older-than", hint="write 30d, 12h or 2w (s, m, h, d, w)"
        )
    return float(int(parts[1]) * _SECONDS[parts[2]])


def byte_count(text: str) -> int:
    """A size such as `2GB` or `1.5GiB` in bytes."""
    parts = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,3})?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if parts is None or (parts[3] and not parts[2]):
        raise PerfError(f"`{text}` is no size", where="--max-size", hint="write 2GB, 500MB or 1GiB")
    unit = _BYTES[parts[2]]
    return int(float(parts[1]) * (1024 ** (len(str(unit)) // 3) if parts[3] else unit))


def pixels(text: str) -> tuple[int, int]:
    """Width and height of a picture, such as `768x512`; of a square, `512`."""
    sides = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text.strip().lower())
    if sides is None:
        raise PerfError(f"{text!r} is not a size", where="--size", hint="write it as 512x512")
    return int(sides[1]), int(sides[2] or sides[1])
