"""Concept names and versions: the one spelling under which everything is stored."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Annotated

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion
from packaging.version import Version as ParsedVersion
from pydantic import AfterValidator, Field, WithJsonSchema

from perfusion_registry.errors import PerfError

LONGEST_NAME = 64
_SHAPE = re.compile(r"[a-z](?:[a-z0-9_-]*[a-z0-9])?\Z")
_WINDOWS_RESERVED = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))]
)


@lru_cache(maxsize=2**14)
def _name(text: str) -> str:
    if len(text) > LONGEST_NAME:
        raise ValueError(f"a name has at most {LONGEST_NAME} characters; this one has {len(text)}")
    if not _SHAPE.match(text):
        raise ValueError(
            f"`{text}` is not a concept name: lowercase letters, digits, `-` and `_`, "
            "starting with a letter and ending with a letter or digit"
        )
    folded = re.sub(r"[-_]+", "-", text)
    if folded in _WINDOWS_RESERVED:
        raise ValueError(f"`{text}` cannot be a file name on Windows; choose another")
    return folded


def canonical_name(text: str) -> str:
    """The stored spelling of a concept name: `blue_teapot` and `blue-teapot` are both `blue-teapot`.

    Raises PerfError when `text` is not a name: lowercase ASCII letters, digits, `-` and `_`, at most 64.
    """
    try:
        return _name(text)
    except ValueError as error:
        like = name_like(text)
        raise PerfError(str(error), hint=f"call it {like}, for instance" if like else None) from error


def name_like(text: str) -> str | None:
    """A concept name that reads like any text: `my-bar` for `My Bär!`. None where none does."""
    letters = unicodedata.normalize("NFKD", text.partition("=")[0]).encode("ascii", "ignore").decode().lower()
    like = re.sub(r"[^a-z0-9]+", "-", letters).lstrip("-0123456789")[:LONGEST_NAME].rstrip("-")
    return like if like and like not in _WINDOWS_RESERVED else None


@lru_cache(maxsize=2**17)
def parsed_version(text: str) -> ParsedVersion:
    """A version that was checked before, parsed."""
    return ParsedVersion(text)


@lru_cache(maxsize=2**12)
def _version(text: str) -> str:
    try:
        return str(ParsedVersion(text))
    except InvalidVersion as error:
        raise ValueError(f"`{text}` is not a version such as `1.0.0` (PEP 440)") from error


def _constraint(text: str) -> str:
    try:
        return str(SpecifierSet(text))
    except InvalidSpecifier as error:
        raise ValueError(f"`{text}` is not a version constraint such as `>=1.2,<2` (PEP 440)") from error


Name = Annotated[
    str,
    AfterValidator(_name),
    WithJsonSchema({"type": "string", "pattern": "^[a-z]([a-z0-9_-]{0,62}[a-z0-9])?$"}),
]
"""A concept name, folded to its stored spelling."""

Version = Annotated[str, AfterValidator(_version), WithJsonSchema({"type": "string", "examples": ["1.0.0"]})]
"""A PEP 440 version, normalised."""

Constraint = Annotated[
    str, AfterValidator(_constraint), WithJsonSchema({"type": "string", "examples": [">=1.2,<2"]})
]
"""A PEP 440 version constraint, normalised."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""The SHA-256 of some bytes, in hex."""
