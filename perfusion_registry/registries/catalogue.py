"""The catalogue: one line for every concept of a registry, for searching.

It is derived from the indexes and may lag behind them; nothing is ever resolved from it. Several versions of
perf write it: a newer one may add keys, which are passed over in reading and kept in writing, and lines of a
format of its own, which are kept as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Version
from perfusion_registry.registries.index import Index, first_mistake
from perfusion_registry.registries.registry import CatalogueEntry, RegistryError

CATALOGUE_KEY = "catalogue.jsonl"
CATALOGUE_FORMAT = 1
LARGEST_CATALOGUE = 64 * 2**20
_LONGEST_TEXT = 400

_Short = Annotated[str, Field(max_length=_LONGEST_TEXT)]


class CatalogueLine(FileModel):
    """One concept or scene pack, as its newest version that is not yanked describes it.

    format: of the line; one without it is of format 1. There may be keys that only a newer perf knows.
    """

    model_config = ConfigDict(extra="ignore")
    format: Annotated[Literal[1], Field(exclude_if=lambda form: form == 1)] = 1
    name: Name
    version: Version
    kind: Literal["concept", "pack"]
    supercategory: _Short | None = None
    description: _Short | None = None
    licence: _Short | None = None
    consent: _Short | None = None
    preview: bool | None = None


def read_catalogue(data: bytes, where: str) -> tuple[CatalogueEntry, ...]:
    """The entries by name, but for those of a newer format; raises RegistryError for what is no catalogue."""
    entries: dict[str, CatalogueEntry] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            read = CatalogueLine.model_validate_json(line)
        except ValidationError as error:
            if _is_newer(_members(line)):
                continue
            raise RegistryError(
                f"the catalogue is malformed: {first_mistake(error)}",
                where=f"{where}, line {number}",
                hint="any publication to the registry writes it anew",
            ) from error
        told = read.model_dump(exclude={"format"}) | {"preview": bool(read.preview)}
        entries[read.name] = CatalogueEntry(**told)
    return tuple(entries[name] for name in sorted(entries))


def renewed(data: bytes, index: Index) -> bytes:
    """The catalogue with the line of one concept as its index now has it; lines that are malformed go.

    All other lines stay as they are, to the byte. What a newer perf says in that concept's line, in keys that
    this one does not know, stays while the line is of the same version.
    """
    lines: dict[str, bytes] = {}
    before: Mapping[str, Any] = {}
    for line in data.splitlines():
        members = _members(line)
        name = members.get("name")
        if name == index.name:
            before = members
        elif isinstance(name, str) and (_is_newer(members) or _is_line(line)):
            lines[name] = line
    releases = [listing.release for listing in index.sorted() if not listing.yanked]
    if releases:
        line = _line(CatalogueEntry.of(releases[-1]))
        if before.get("version") == releases[-1].version:
            known = CatalogueLine.model_fields.keys()
            foreign = {key: value for key, value in before.items() if key not in known}
            line = _json(json.loads(line) | foreign) if foreign else line
        lines[index.name] = line
    return _written(lines[name] for name in sorted(lines))


def catalogue_bytes(entries: Iterable[CatalogueEntry]) -> bytes:
    """A catalogue with these entries."""
    return _written(map(_line, entries))


def _line(of: CatalogueEntry) -> bytes:
    line = CatalogueLine(
        name=of.name,
        version=of.version,
        kind=of.kind,
        supercategory=_cut(of.supercategory),
        description=_cut(of.description),
        licence=_cut(of.licence),
        consent=_cut(of.consent),
        preview=of.preview or None,
    )
    return line.model_dump_json(exclude_none=True).encode()


def _written(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _members(line: bytes) -> Mapping[str, Any]:
    """The keys and values of a line, whatever they are; none of what is no JSON object."""
    try:
        members = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _is_newer(members: Mapping[str, Any]) -> bool:
    """Whether a line is of a format that only a newer perf reads."""
    form = members.get("format")
    return type(form) is int and form > CATALOGUE_FORMAT


def _is_line(line: bytes) -> bool:
    try:
        CatalogueLine.model_validate_json(line)
    except ValidationError:
        return False
    return True


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no value of JSON")


def _json(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
