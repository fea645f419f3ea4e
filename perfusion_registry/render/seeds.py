"""Which seeds somebody asks for: a first one, a list, a range, or any. Imports without torch."""

from __future__ import annotations

import re
import secrets

from perfusion_registry.errors import PerfError

MOST = 10_000
"""Seeds of one request."""
_PART = re.compile(r"(\d{1,20})(?:-(\d{1,20}))?", re.ASCII)
_RANDOM = 2**32  # as other programs have them, to be typed again


def read_seeds(text: str | None, count: int | None, usual: int | None = None) -> tuple[int, ...] | None:
    """The seeds that are said, None where nothing is.

    text: `5` (the first of `count`), `1,5,9`, `0-5`, both mixed, or `random` for any `count` different ones.
    usual: how many, where nobody says. Raises PerfError where the text is none of these, or a list has a
    count beside it.
    """
    many = count or usual
    if text is None:
        return None if many is None else tuple(range(many))
    where, said = f"--seed {text}", "".join(text.split())
    if said == "random":
        found: dict[int, None] = {}
        while len(found) < (many or 1):
            found[secrets.randbelow(_RANDOM)] = None
        return tuple(found)
    parts = [_PART.fullmatch(part) for part in said.split(",")]
    if not all(parts):
        raise PerfError(f"{text!r} is no seed", where=where, hint="write 5, 1,5,9, 0-5, or random")
    ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part]
    if any(not one for one in ranges):
        raise PerfError("a range of seeds begins with the smaller one", where=where, hint="write 0-5")
    if sum(map(len, ranges)) > MOST:
        raise PerfError(f"these are more than {MOST:,} seeds", where=where, hint="ask for fewer at once")
    seeds = tuple(dict.fromkeys(seed for one in ranges for seed in one))
    if said.isdecimal():
        return tuple(range(seeds[0], seeds[0] + (many or 1)))
    if count is not None:
        raise PerfError(
            f"{text} says by itself how many seeds there are, and {count} are asked for beside it",
            where=where,
            hint="leave the number out, or say one seed to begin with",
        )
    return seeds
