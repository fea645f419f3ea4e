"""What may be set for a concept where it is called: in a prompt's braces, in a scene, by a command.

A *setting* has a name, and its values are numbers or words. Each place says some settings, or none, as a
mapping of fields to values; the concept's method makes of all places the options that apply. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from perfusion_registry.errors import PerfError

Value = float | str
Settings = Mapping[str, Value]
"""What one place sets: values by the fields of their settings."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)


_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


@dataclass(frozen=True)
class Setting:
    """One thing that may be set.

    key: as braces and commands say it. field: as files' tables and the method's options say it; by default
    the same. type: of its values, a number or a `Literal` of words, with pydantic's constraints. example: a
    value, as somebody would write it. noun: what a word of it is called, in errors. usual: a value that
    summaries need not mention. instead_of: the field of the setting that it stands for in another measure, so
    that no place says both. null: whether a scene that does not say it has a null in its place, as scenes
    of format 1 have for what there was then.
    """

    key: str
    type: Any
    example: str
    field: str = ""
    noun: str = ""
    usual: Value | None = None
    instead_of: str = ""
    null: bool = True

    def __post_init__(self) -> None:
        """Give the field its default."""
        object.__setattr__(self, "field", self.field or self.key)

    @property
    def option(self) -> str:
        """Its key as commands spell options: `relative-bias`."""
        return self.key.replace("_", "-")

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it may be; empty for a number."""
        return tuple(word for word in get_args(self.type) if isinstance(word, str))

    def read(self, text: str) -> Value:
        """A value as a person writes it. Raises PerfError, without a place, where it cannot be one."""
        if self.words:
            return self.check(text)
        if not _NUMBER.fullmatch(text):
            raise PerfError(f"{text!r} is not a number", hint=self._for_instance)
        return self.check(int(text) if _WHOLE.fullmatch(text) else float(text), text)

    def read_several(self, text: str) -> tuple[Value, ...]:
        """Values between commas, each once: numbers in order, words as they stand. Raises as `read` does."""
        values = [self.read(part.strip()) for part in text.split(",")]
        return tuple(dict.fromkeys(values)) if self.words else tuple(sorted(set(values)))

    def check(self, value: object, written: str | None = None) -> Value:
        """A value of a program or of a file. Raises as `read` does; written: as the error shows it."""
        if self.words:
            if value not in self.words:
                hint = f"{self.key} is one of {', '.join(self.words)}"
                raise PerfError(f"{value!r} is no {self.noun or self.key}", hint=hint)
            return str(value)
        try:
            checked: float = TypeAdapter(self.type).validate_python(value, strict=True)
        except ValidationError as error:
            limit = error.errors()[0]["msg"].removeprefix("Input ")
            raise PerfError(
                f"a {self.key} {limit}, not {written or value}", hint=self._for_instance
            ) from error
        return checked

    @property
    def _for_instance(self) -> str:
        return f"for instance {self.key}={self.example}"

    def shown(self, value: Value) -> str:
        """A value for people: `0.55`, `local`."""
        return value if isinstance(value, str) else f"{value:g}"

    def phrase(self, value: Value) -> str:
        """A value with what it is of: `bias 0.55`, `local lock`."""
        return f"{value} {self.key}" if isinstance(value, str) else f"{self.key} {value:g}"


@dataclass(frozen=True)
class Axis:
    """One side of a sweep: the key of a setting, and the numbers that it takes."""

    key: str
    values: tuple[float, ...]
