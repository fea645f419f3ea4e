"""Reading a TOML file into its model, with every mistake of the file in one error."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from perfusion_registry.errors import PerfError
from perfusion_registry.suggestions import did_you_mean

LARGEST_FILE = 16 * 1024 * 1024
_LONGEST_SEARCH = 2000
_MOST_TOLD = 20
Model = TypeVar("Model", bound=BaseModel)
Location = tuple[int | str, ...]


def read_text(path: Path, kind: str, *, hint: str | None = None) -> str:
    """The text of a small UTF-8 file; `kind` (recipe, manifest, ...) names it in errors. hint: what to do
    where there is none, or no text."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise PerfError(f"the {kind} is larger than {LARGEST_FILE // 2**20} MB", where=str(path))
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError as error:
        raise PerfError(f"there is no {kind} here", where=str(path), hint=hint) from error
    except OSError as error:
        raise PerfError(f"the {kind} cannot be read: {error.strerror or error}", where=str(path)) from error
    except UnicodeDecodeError as error:
        what = f"the {kind} is not UTF-8 text (byte {error.start})"
        raise PerfError(what, where=str(path), hint=hint or "save it as UTF-8 in your editor") from error


def parse_toml(text: str, where: str, kind: str) -> dict[str, Any]:
    """Parse TOML; a mistake of syntax is a PerfError with the line and a caret under the place."""
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        lines = text.split("\n")
        excerpt = lines[error.lineno - 1][:200] if error.lineno <= len(lines) else ""
        caret = " " * (min(error.colno, 201) - 1) + "^"
        raise PerfError(
            f"the {kind} is not valid TOML: {error.msg}\n    {excerpt}\n    {caret}",
            where=f"{where}:{error.lineno}:{error.colno}",
            hint=_mending(kind, excerpt),
        ) from error
    except RecursionError as error:
        raise PerfError(f"the {kind} nests values too deeply", where=where) from error
    except ValueError as error:
        raise PerfError(f"the {kind} has a number of too many digits", where=where) from error


def _mending(kind: str, line: str) -> str | None:
    """What to do about a file that is no TOML, where more than the place helps. line: where it ends to be."""
    if kind == "manifest" and line.startswith("<<<<<<< "):
        return "a merge left it in conflict; `perf lock` keeps both sides where they only added something"
    if kind == "lockfile":  # which nobody writes by hand
        return "take it from version control again, or delete it and run `perf lock`"
    return None


def read_model(path: Path, model: type[Model], kind: str) -> Model:
    """Read a TOML file into `model`; raises one PerfError that lists all mistakes of the file."""
    text = read_text(path, kind)
    return validate(parse_toml(text, str(path), kind), model, text=text, where=str(path), kind=kind)


def validate(data: Mapping[str, Any], model: type[Model], *, text: str, where: str, kind: str) -> Model:
    """Check parsed TOML against `model`; `text` is searched for the lines of the mistakes."""
    try:
        # By way of JSON, where an array may become a tuple while every other type stays strict.
        return model.model_validate_json(json.dumps(data, default=_foreign))
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    own = [mistake for mistake in mistakes if not _follows(mistake, mistakes)]
    lines = sorted(
        (_describe(mistake, data, model, text) for mistake in own[:_MOST_TOLD]),
        key=lambda mistake: mistake[1] or 0,
    )
    if len(lines) == 1:
        key, line, message = lines[0]
        place = f"{where}{f':{line}' if line else ''}" + (f", {key}" if key else "")
        raise PerfError(f"the {kind} has a mistake: {message}", where=place)
    listed = "\n".join(
        f"  - {f'line {line}, ' if line else ''}{key or 'file'}: {message}" for key, line, message in lines
    )
    more = f"\n  - and {len(own) - _MOST_TOLD} more" if len(own) > _MOST_TOLD else ""
    raise PerfError(f"the {kind} has {len(own)} mistakes:\n{listed}{more}", where=where)


def quote(text: str) -> str:
    """`text` as a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _foreign(value: object) -> dict[str, str]:
    """TOML dates have no place in any model; wrapped, they fail the type check of their field."""
    return {"date or time": str(value)}


def _describe(
    mistake: ErrorDetails, data: Mapping[str, Any], model: type[BaseModel], text: str
) -> tuple[str, int | None, str]:
    """Key path, line and sentence for one pydantic error."""
    path = _within(tuple(part for part in mistake["loc"] if part != "[key]"), data, mistake["type"])
    key = ".".join(str(part) for part in path)
    kind = mistake["type"]
    if kind == "extra_forbidden":
        known = list(_fields_at(model, path[:-1]))
        meant = did_you_mean(str(path[-1]), known, f"known: {', '.join(known)}")
        return key, line_of(text, path), f"unknown key; {meant}"
    if kind == "missing":
        return key, line_of(text, path[:-1]), "this key is missing"
    if kind == "value_error":
        message = str(mistake.get("ctx", {}).get("error", mistake["msg"]))
    else:
        message = f"{_lower(mistake['msg'])}{_got(data, path)}"
    return key, line_of(text, path), message


def _follows(mistake: ErrorDetails, mistakes: list[ErrorDetails]) -> bool:
    """Whether a mistake only follows from one inside it (an array too short since its items are wrong)."""
    loc = mistake["loc"]
    return mistake["type"] == "too_short" and any(
        other["loc"][: len(loc)] == loc and len(other["loc"]) > len(loc) for other in mistakes
    )


def _lower(message: str) -> str:
    expected = message.removeprefix("Input should be ")
    return f"expected {expected}" if expected != message else message[:1].lower() + message[1:]


def _got(data: Mapping[str, Any], path: Location) -> str:
    value: Any = data
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return ""
    if isinstance(value, date | time):
        return ", got a date or time"
    shown = json.dumps(value, default=str, ensure_ascii=False)
    return f", got {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _within(loc: Location, data: Mapping[str, Any], kind: str) -> Location:
    """`loc` without pydantic's own additions (union branches, function names), which are not keys."""
    value: Any = data
    path: list[int | str] = []
    for place, part in enumerate(loc):
        if (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        ):
            value = value[part]  # type: ignore[index]
            path.append(part)
        elif place == len(loc) - 1 and kind == "missing":
            path.append(part)
    return tuple(path)


def fields_of(annotation: Any) -> dict[str, FieldInfo]:
    """The fields, by their keys in the file, of the model inside an annotation (`tuple[Model, ...]`)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {field.alias or name: field for name, field in annotation.model_fields.items()}
    return next((fields for inner in get_args(annotation) if (fields := fields_of(inner))), {})


def _fields_at(model: type[BaseModel], path: Location) -> dict[str, FieldInfo]:
    """The fields of the model at `path` below `model`."""
    fields = fields_of(model)
    for part in path:
        if part in fields:
            fields = fields_of(fields[str(part)].annotation)
    return fields


@dataclass(frozen=True)
class Statement:
    """One statement, comment or blank line of a TOML text.

    begin, end: its first and last line, from 1. lines: their text.
    """

    begin: int
    end: int
    lines: tuple[str, ...]
    _before: list[str] = field(repr=False)

    @property
    def parsed(self) -> dict[str, Any]:
        """The data of all lines up to `end`, parsed when asked."""
        return tomli.loads("\n".join(self._before[: self.end]))


def statements(text: str) -> Iterator[Statement]:
    """The statements of a valid TOML text, in order; none for a text of very many lines.

    A statement ends where its lines parse: exact for every way of writing TOML, and quadratic in the length
    of a statement.
    """
    lines = text.split("\n")
    if len(lines) > _LONGEST_SEARCH:
        return
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            tomli.loads("\n".join(lines[begin:end]))
        except (ValueError, RecursionError):
            continue
        yield Statement(begin + 1, end, tuple(lines[begin:end]), lines)
        begin = end


def line_of(text: str, path: Location) -> int | None:
    """The line (from 1) where the statement that sets `path`, or its nearest parent, begins."""
    lines = list(statements(text))
    if not lines:
        return None
    depth = _depth(lines[-1].parsed, path)
    if depth == 0:
        return None
    # What is set stays set: the first statement after which `path` is as deep as it ever gets.
    return lines[bisect_left(lines, depth, key=lambda statement: _depth(statement.parsed, path))].begin


def _depth(value: Any, path: Location) -> int:
    """How many leading parts of `path` exist in `value`."""
    for count, part in enumerate(path):
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return count
    return len(path)
