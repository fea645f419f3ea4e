"""A line of a file of prompts: the prompt, and what is said of its picture alone. Imports without torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.quantities import pixels
from perfusion_registry.render.seeds import read_seeds
from perfusion_registry.suggestions import did_you_mean

_OPTION = re.compile(r"(?:^|\s)--([a-zA-Z][\w-]*)(?:[\s=]+|$)")
_QUOTES = "\"'"
_ELSEWHERE = {
    **dict.fromkeys(("n", "neg", "negative-prompt", "negative_prompt"), "negative"),
    **dict.fromkeys(("w", "h", "width", "height"), "size"),
    **dict.fromkeys(("l", "cfg", "cfg-scale", "cfg_scale"), "guidance"),
    **dict.fromkeys(("s", "d"), "steps or seed"),
    **dict.fromkeys(("sampler_name", "sampler"), "scheduler"),
}
"""Options of lines in sd-scripts and A1111, and how they are called here."""


def read_line(line: str, count: int | None = None) -> tuple[str, dict[str, Any]]:
    """The prompt of a line, and the fields of a request that options behind it say, as
    `a teddy* in the snow --seed 3 --negative fog`.

    count: how many pictures a seed is the first of. Raises PerfError for an option that lines do not have,
    one that is said twice, and a value that it cannot have.
    """
    found = list(_OPTION.finditer(line))
    prompt = line[: found[0].start() if found else None].strip()
    if not prompt:
        raise PerfError("there is no prompt before the options", hint="write it first: a teddy* --seed 3")
    said: dict[str, Any] = {}
    ends = [*(option.start() for option in found[1:]), len(line)]
    for option, end in zip(found, ends, strict=False):
        value = line[option.end() : end].strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in _QUOTES:
            value = value[1:-1]
        fields = _read_option(option[1], value, count)
        if fields.keys() & said.keys():
            raise PerfError(f"--{option[1]} is said twice", hint="say it once")
        said |= fields
    return prompt, said


def _read_option(name: str, value: str, count: int | None) -> dict[str, Any]:
    """What one option says, by field of a request."""
    if name == "seed":
        return {"seeds": read_seeds(value, None, usual=count)}
    if name == "size":
        return dict(zip(("width", "height"), pixels(value), strict=True))
    if name in _PLAIN:
        field, kind = _PLAIN[name]
        try:
            return {field: kind(value)}
        except ValueError as error:
            raise PerfError(f"{value!r} is no number", where=f"--{name}") from error
    known = sorted([*_PLAIN, "seed", "size"])
    every = f"there are {', '.join(f'--{one}' for one in known)}"
    meant = _ELSEWHERE.get(name)
    raise PerfError(
        f"a line of prompts has no option --{name}",
        hint=f"it is --{meant} here" if meant else did_you_mean(name, known, every, form="--{}"),
    )


_PLAIN: dict[str, tuple[str, Callable[[str], Any]]] = {
    "steps": ("steps", int),
    "guidance": ("guidance", float),
    "negative": ("negative_prompt", str),
    "scheduler": ("scheduler", str),
}
"""Options whose value is the field's."""
