"""What a new recipe's `[train]` and `[render]` say, given by key in the words of its method."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import tomli

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import recipe_section
from perfusion_registry.suggestions import did_you_mean

TABLES = ("train", "render")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)


def read_value(text: str) -> Any:
    """A value as a person writes it: a number, `true`, a list as in TOML; anything else is a word."""
    if _NUMBER.fullmatch(text):
        return int(text) if _WHOLE.fullmatch(text) else float(text)
    try:
        read = tomli.loads(f"value = {text}")
    except ValueError:
        return text
    return read["value"] if len(read) == 1 else text


def read_options(settings: Iterable[str]) -> dict[str, Any]:
    """What `--set KEY=VALUE` says, by key; raises PerfError for what says nothing, or something twice."""
    options: dict[str, Any] = {}
    for said in settings:
        key, equals, value = (part.strip() for part in said.partition("="))
        if not (key and equals and value):
            raise PerfError(f"{said!r} says no value", where="--set", hint="for instance --set train.bias=.7")
        if key in options:
            raise PerfError(f"`{key}` is said twice", where="--set", hint="say it once")
        options[key] = read_value(value)
    return options


def in_tables(
    method: str, options: Mapping[str, Any], said: Mapping[str, Mapping[str, Any]], where: str
) -> dict[str, dict[str, Any]]:
    """`[train]` and `[render]` with the options in their places.

    options: by key, or by table and key (`train.bias`) where both tables have the key. said: what stands in
    the tables already; None is as if left out. where: for errors. Raises PerfError for a key that the method
    does not have, that is in both tables, or that is said twice. Values are not looked at.
    """
    tables = {
        table: {key: value for key, value in said[table].items() if value is not None} for table in TABLES
    }
    for called, value in options.items():
        table, key = _place(method, called, where)
        if key in tables[table]:
            raise PerfError(f"`{table}.{key}` is said twice", where=where, hint="say it once")
        tables[table][key] = value
    return tables


def _place(method: str, called: str, where: str) -> tuple[str, str]:
    """The table and key of an option."""
    known = {table: recipe_section(method, table).model_fields for table in TABLES}
    table, dot, key = called.partition(".")
    if dot and table in TABLES:
        if key in known[table]:
            return table, key
        at = [table]
    else:
        key, at = called, list(TABLES)
    there = [table for table in at if key in known[table]]
    if len(there) == 1:
        return there[0], key
    if there:
        both = " or ".join(f"{table}.{key}" for table in there)
        raise PerfError(f"`{key}` is a key of [train] and of [render]", where=where, hint=f"say {both}")
    every = [name for table in at for name in known[table]]
    hint = did_you_mean(key, every, f"it has {', '.join(dict.fromkeys(every))}", form="`{}`")
    tables = " or ".join(f"[{table}]" for table in at)
    raise PerfError(f"`{key}` is no key of {tables} of the method `{method}`", where=where, hint=hint)
