"""Edits of a manifest's text that keep its comments, order and spacing."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.document import parse_toml, statements
from perfusion_registry.recipe.lockfile_text import toml_key, toml_value
from perfusion_registry.recipe.manifest import MANIFEST_NAME

_NAME = "manifest"


def add_concept(text: str, name: str, entry: Mapping[str, str], where: str) -> str:
    """The manifest `text` with the concept `name` as `entry` says; unchanged if it says so already.

    entry: `recipe` (a path from the project's folder, with `/`), or `version` and perhaps `registry`. Raises
    PerfError when `text` is not TOML.
    """
    known = _spelling(name, parse_toml(text, where, _NAME).get("concepts", {}))
    return _set(text, "concepts", known or name, dict(entry), where)


def add_registry(text: str, name: str, url: str, where: str) -> str:
    """The manifest `text` with the registry `name` at `url`; unchanged if it says so already."""
    return _set(text, "registries", name, url, where)


def _set(text: str, table: str, key: str, value: str | dict[str, str], where: str) -> str:
    """The manifest `text` with `key` of `table` set: on a line of its own below the table's last entry."""
    entries = parse_toml(text, where, _NAME).get(table, {})
    if entries.get(key) == value:
        return text
    line = f"{toml_key(key)} = {toml_value(value)}"
    last = _last_entry(text, table) if key not in entries else None
    if last is not None:
        lines = text.split("\n")
        added = "\n".join([*lines[:last], line, *lines[last:]])
        if parse_toml(added, where, _NAME).get(table, {}).get(key) == value:
            return added
    document = _document(text, where)
    if table not in document:
        document[table] = tomlkit.table()
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        inline.update(value)
        _table(document, table)[key] = inline
    else:
        _table(document, table)[key] = value
    return tomlkit.dumps(document)


def set_scene(
    text: str, name: str, prompt: str, gates: Mapping[str, Mapping[str, float | str]], where: str
) -> str:
    """The manifest `text` with a scene of this prompt and these values of its concepts' gates.

    What else the scene says of its gates stays, but for a preset, which these values replace. Raises
    PerfError when `text` is not TOML or cannot be edited.
    """
    scenes = parse_toml(text, where, _NAME).get("scenes", {})
    if name not in scenes:
        fields = [f"prompt = {toml_value(prompt)}", f"gates = {toml_value(dict(gates))}"]
        block = "\n".join([f"[scenes.{toml_key(name)}]", *fields, ""])
        added = f"{text.rstrip()}\n\n{block}" if text.strip() else block
        try:
            parse_toml(added, where, _NAME)
        except PerfError:  # `scenes` is written as one value, which no table can follow
            pass
        else:
            return added
    document = _document(text, where)
    known = _table(document, "scenes")
    if name not in known:
        known[name] = tomlkit.inline_table()
    scene = _inside(known, name, f"scenes.{name}")
    if scene.get("prompt") != prompt:
        scene["prompt"] = prompt
    if "gates" not in scene:
        scene["gates"] = tomlkit.inline_table()
    table = _inside(scene, "gates", f"scenes.{name}.gates")
    for concept, values in gates.items():
        key = _spelling(concept, dict(table)) or concept
        if key not in table:
            table[key] = tomlkit.inline_table()
        gate = _inside(table, key, f"scenes.{name}.gates.{key}")
        gate.pop("preset", None)
        for field, value in values.items():
            if gate.get(field) != value:
                gate[field] = value
    return tomlkit.dumps(document)


def remove_concept(text: str, name: str, where: str) -> str:
    """The manifest `text` without the concept `name`; unchanged if it is not there."""
    known = _spelling(name, parse_toml(text, where, _NAME).get("concepts", {}))
    if known is None:
        return text
    document = _document(text, where)
    del _table(document, "concepts")[known]
    return tomlkit.dumps(document)


def set_keys(text: str, table: str, values: Mapping[str, str | list[str]], where: str) -> str:
    """The text of a recipe, or of any such file, with these keys of a table that is there; comments stay."""
    if all(parse_toml(text, where, "recipe").get(table, {}).get(key) == values[key] for key in values):
        return text
    document = _document(text, where)
    section = _table(document, table)
    for key, value in values.items():
        section[key] = value
    return tomlkit.dumps(document)


def _spelling(name: str, concepts: dict[str, object]) -> str | None:
    """How the manifest spells the canonical `name`."""
    return next((key for key in concepts if re.sub("[-_]+", "-", key) == name), None)


def _last_entry(text: str, table: str) -> int | None:
    """The last line (from 1) of a table's last entry, or of its header; None if it has no header.

    tomlkit alone would put a new entry below the comments that introduce the next table.
    """
    last: int | None = None
    for statement in statements(text):
        first = statement.lines[0].strip()
        if re.match(rf"\[\s*{table}\s*\]", first):
            last = statement.end
        elif last is not None and first.startswith("["):
            break
        elif last is not None and first and not first.startswith("#"):
            last = statement.end
    return last


def _table(document: tomlkit.TOMLDocument, name: str) -> MutableMapping[str, Any]:
    """A table, however it is written."""
    return _inside(document, name, name)


def _inside(outer: MutableMapping[str, Any], name: str, path: str) -> MutableMapping[str, Any]:
    """A table in a table; `path` names it in the error."""
    table = outer[name]
    if not isinstance(table, MutableMapping):
        raise PerfError(f"`{path}` is not a table", where=f"{MANIFEST_NAME}, {path}")
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
