"""The catalogue: one line for every concept of a registry, for searching.

It is derived from the indexes and may lag behind them; nothing is ever resolved from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

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

    Keys that a newer perf has added are kept as they are; what this one could misread has another format.
    """

    model_config = ConfigDict(extra="allow")

    format: Annotated[Literal[1], Field(exclude_if=lambda number: number == CATALOGUE_FORMAT)] = 1
    name: Name
    version: Version
    kind: Literal["concept", "pack"]
    supercategory: _Short | None = None
    description: _Short | None = None
    licence: _Short | None = None
    consent: _Short | None = None
    preview: bool | None = None


class _NewerLine(FileModel):
    """A line of a format that this perf does not know."""

    model_config = ConfigDict(extra="allow")

    format: Annotated[int, Field(gt=CATALOGUE_FORMAT)]
    name: Name


_Line = TypeAdapter[CatalogueLine | _NewerLine](CatalogueLine | _NewerLine)


def read_catalogue(data: bytes, where: str) -> tuple[CatalogueEntry, ...]:
    """The entries by name, without those of newer formats; raises RegistryError for what is not a
    catalogue.
    """
    entries: dict[str, CatalogueEntry] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            read = _Line.validate_json(line)
        except ValidationError as error:
            raise RegistryError(
                f"the catalogue is malformed: {first_mistake(error)}",
                where=f"{where}, line {number}",
                hint="any publication to the registry writes it anew",
            ) from error
        if isinstance(read, CatalogueLine):
            entries[read.name] = _entry(read)
    return tuple(entries[name] for name in sorted(entries))


def renewed(data: bytes, index: Index) -> bytes:
    """The catalogue with the line of one concept as its index now has it; lines that are malformed go."""
    lines: dict[str, CatalogueLine | _NewerLine] = {}
    for line in data.splitlines():
        try:
            read = _Line.validate_json(line)
        except ValidationError:
            continue
        lines[read.name] = read
    lines.pop(index.name, None)
    releases = [listing.release for listing in index.sorted() if not listing.yanked]
    if releases:
        lines[index.name] = _line(CatalogueEntry.of(releases[-1]))
    return _written(lines[name] for name in sorted(lines))


def catalogue_bytes(entries: Iterable[CatalogueEntry]) -> bytes:
    """A catalogue with these entries."""
    return _written(map(_line, entries))


def _entry(line: CatalogueLine) -> CatalogueEntry:
    known = line.model_dump(include={field.name for field in fields(CatalogueEntry)})
    return CatalogueEntry(**known | {"preview": bool(line.preview)})


def _line(of: CatalogueEntry) -> CatalogueLine:
    return CatalogueLine(
        name=of.name,
        version=of.version,
        kind=of.kind,
        supercategory=_cut(of.supercategory),
        description=_cut(of.description),
        licence=_cut(of.licence),
        consent=_cut(of.consent),
        preview=of.preview or None,
    )


def _written(lines: Iterable[CatalogueLine | _NewerLine]) -> bytes:
    return b"".join(line.model_dump_json(exclude_none=True).encode() + b"\n" for line in lines)


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
