"""Edits of a manifest's text that keep its comments, order and spacing."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.document import parse_toml, statements
from perfusion_registry.recipe.manifest import MANIFEST_NAME

_NAME = "manifest"


def add_concept(text: str, name: str, recipe: str, where: str) -> str:
    """The manifest `text` with the concept `name` built from `recipe`; unchanged if it is there already.

    recipe: path of the recipe from the project's folder, with `/`. Raises PerfError when `text` is not TOML.
    """
    concepts = parse_toml(text, where, _NAME).get("concepts", {})
    known = _spelling(name, concepts)
    if known is not None and concepts[known] == {"recipe": recipe}:
        return text
    entry = tomlkit.inline_table()
    entry["recipe"] = recipe
    line = f"{name} = {{ recipe = {tomlkit.string(recipe).as_string()} }}"
    last = _last_entry(text) if known is None else None
    if last is not None:
        lines = text.split("\n")
        added = "\n".join([*lines[:last], line, *lines[last:]])
        if parse_toml(added, where, _NAME).get("concepts", {}).get(name) == {"recipe": recipe}:
            return added
    document = _document(text, where)
    if "concepts" not in document:
        document["concepts"] = tomlkit.table()
    _table(document)[known or name] = entry
    return tomlkit.dumps(document)


def remove_concept(text: str, name: str, where: str) -> str:
    """The manifest `text` without the concept `name`; unchanged if it is not there."""
    known = _spelling(name, parse_toml(text, where, _NAME).get("concepts", {}))
    if known is None:
        return text
    document = _document(text, where)
    del _table(document)[known]
    return tomlkit.dumps(document)


def _spelling(name: str, concepts: dict[str, object]) -> str | None:
    """How the manifest spells the canonical `name`."""
    return next((key for key in concepts if re.sub("[-_]+", "-", key) == name), None)


def _last_entry(text: str) -> int | None:
    """The last line (from 1) of `[concepts]`'s last entry, or of its header; None if it has no header.

    tomlkit alone would put a new entry below the comments that introduce the next table.
    """
    last: int | None = None
    for statement in statements(text):
        first = statement.lines[0].strip()
        if re.match(r"\[\s*concepts\s*\]", first):
            last = statement.end
        elif last is not None and first.startswith("["):
            break
        elif last is not None and first and not first.startswith("#"):
            last = statement.end
    return last


def _table(document: tomlkit.TOMLDocument) -> MutableMapping[str, Any]:
    """`[concepts]`, however it is written."""
    table = document["concepts"]
    if not isinstance(table, MutableMapping):
        raise PerfError("`concepts` is not a table", where=f"{MANIFEST_NAME}, concepts")
    return table


def _document(text: str, where: str) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:  # tomli did read it
        raise PerfError(f"the manifest cannot be edited: {error}", where=where) from error


def new_recipe(*, schema: str, concept: dict[str, Any], train: dict[str, Any], render: dict[str, Any]) -> str:
    """The text of a new recipe; keys whose value is None are left out, and so is a table without keys."""
    document = tomlkit.document()
    document.add(tomlkit.comment(f":schema {schema}"))
    for title, keys in (("concept", concept), ("train", train), ("render", render)):
        table = tomlkit.table()
        for key, value in keys.items():
            if value is not None:
                table[key] = value
        if table:
            document.add(tomlkit.nl())
            document[title] = table
    return tomlkit.dumps(document).replace("# :schema", "#:schema", 1)
