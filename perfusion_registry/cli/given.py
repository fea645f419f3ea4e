"""What the options of `render`, `sweep` and `tune` say: their mistakes are told before torch is imported."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, get_args

from perfusion_registry.compose.prompt import KeyLock, gate_value
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import canonical_name
from perfusion_registry.render.request import plain_negative, resolve_request


@dataclass(frozen=True)
class Given:
    """The fields of a request that the command line sets."""

    values: dict[str, Any]

    @classmethod
    def read(
        cls,
        seed: int | None,
        count: int | None,
        steps: int | None,
        guidance: float | None,
        negative: str | None,
        size: str | None,
        scheduler: str | None,
        batch: int | None,
    ) -> Given:
        """Read the options; None is one that was not given."""
        width, height = _size(size) if size is not None else (None, None)
        seeds = None
        if seed is not None or count is not None:
            seeds = tuple(range(seed or 0, (seed or 0) + (1 if count is None else count)))
        values = {
            "seeds": seeds,
            "steps": steps,
            "guidance": guidance,
            "negative_prompt": negative,
            "width": width,
            "height": height,
            "scheduler": scheduler,
            "batch": batch,
        }
        set_values = {key: value for key, value in values.items() if value is not None}
        plain_negative(negative or "")
        resolve_request(set_values, {}, native_size=(64, 64))  # mistakes are told now
        return cls(set_values)


@dataclass(frozen=True)
class Grid:
    """The gates of a sweep. names: the concepts whose gates vary; None for all."""

    biases: tuple[float, ...]
    temperatures: tuple[float, ...]
    names: tuple[str, ...] | None

    @classmethod
    def read(cls, bias: str, temperature: str, concepts: list[str] | None) -> Grid:
        """Read comma-separated numbers, each once and in order, and concept names."""
        names = (
            tuple(canonical_name(name.lower().removesuffix("*")) for name in concepts) if concepts else None
        )
        return cls(numbers("bias", bias), numbers("temperature", temperature), names)


@dataclass(frozen=True)
class Wanted:
    """What to tune. scene: where the result goes; with no `prompt`, its own is tuned.

    biases, temperatures, locks, residuals: what may be chosen, as `Space` of the search has them.
    """

    prompt: str | None
    scene: str | None
    biases: tuple[float, ...] | None
    temperatures: tuple[float, ...] | None
    locks: tuple[KeyLock, ...] | None
    residuals: tuple[float, ...] | None
    images: int

    @classmethod
    def read(
        cls,
        prompt: str | None,
        scene: str | None,
        bias: str | None,
        temperature: str | None,
        lock: str | None,
        residual: str | None,
        images: int,
    ) -> Wanted:
        """Read the options."""
        locks = tuple(dict.fromkeys(part.strip() for part in lock.split(","))) if lock else None
        for one in locks or ():
            if one not in get_args(KeyLock):
                raise PerfError(
                    f"{one!r} is no key lock", where=f"--lock {lock}", hint="lock is local, global or none"
                )
        if scene is not None and "/" in scene:
            raise PerfError(
                f"{scene!r} belongs to a scene pack, which is not the project's to change",
                where="--scene",
                hint="name a scene of perfusion.toml, or a new one",
            )
        return cls(
            prompt,
            scene,
            numbers("bias", bias) if bias else None,
            numbers("temperature", temperature) if temperature else None,
            locks,  # type: ignore[arg-type]  # checked above
            numbers("residual", residual) if residual else None,
            images,
        )


def _size(text: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text.strip().lower())
    if numbers is None:
        raise PerfError(f"{text!r} is no size", where="--size", hint="write it as 512x512")
    return int(numbers[1]), int(numbers[2] or numbers[1])


def numbers(key: str, text: str) -> tuple[float, ...]:
    """Read comma-separated numbers of the gate option `key`, each once and in order."""
    values = []
    for part in text.split(","):
        try:
            values.append(float(gate_value(key, part.strip())[key]))
        except PerfError as error:
            raise PerfError(error.what, where=f"--{key} {text}", hint=error.hint) from error
    return tuple(sorted(set(values)))
