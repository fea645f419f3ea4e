"""What the files of `format2` say, field by field, as plain JSON, as `reading` says it of format 1."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from perfusion_registry.artifact import load_artifact
from perfusion_registry.recipe import read_lockfile
from tests.golden import reading

FORMAT2 = Path(__file__).parent / "format2"


def artifacts() -> dict[str, Any]:
    """Every artifact: its card, and each tensor's type, shape and digest."""
    said = {}
    for path in blobs():
        read = load_artifact(path)
        said[read.card.name] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "card": read.card.model_dump(mode="json"),
            "tensors": reading.tensors(read.tensors),
        }
    return dict(sorted(said.items()))


def blobs() -> list[Path]:
    """The artifacts of the registry; what is no artifact there is a scene pack."""
    found = sorted((FORMAT2 / "registry" / "blobs").glob("*/*"))
    return [path for path in found if not path.read_bytes().startswith(b"[pack]")]


def lockfile() -> dict[str, Any]:
    """The lockfile, field by field."""
    return read_lockfile(FORMAT2 / "author" / "perfusion.lock").model_dump(mode="json")


def index() -> dict[str, Any]:
    """Every index: releases field by field, yanks, and what the signatures say."""
    return reading.index(FORMAT2)


def compositions() -> dict[str, Any]:
    """The compositions, and that of the picture's record."""
    said: dict[str, Any] = {
        name: reading.composition(FORMAT2 / f"{name}.json")[0] for name in ("two", "three")
    }
    return said | {"record": reading.read_metadata(FORMAT2 / "two.png").model_dump(mode="json")}


READERS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "artifacts.json": artifacts,
    "lockfile.json": lockfile,
    "index.json": index,
    "compositions.json": compositions,
}
