"""A place as it is on a machine: projects, a registry, a store and a base, put together from `format1`.

place/
  base/        the golden base
  author/      builds every kind of concept, and publishes
  team/        takes concepts and a scene pack from the registry, and has a recipe and a pack of its own
  home/        the embedded base
  registry/    three versions of `bear`, signed, one yanked; `dog`, unsigned; `tour`, a scene pack
  store/       the artifacts, and which recipe built each
  data/        the keys that the machine knows
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.golden.base import assemble_base

GOLDEN = Path(__file__).parent / "format1"
SIGNING_KEY = "07" * 32
ROOT = "<place>"
"""What stands for the place's own path in the goldens."""


@dataclass(frozen=True)
class Said:
    """What a command said."""

    code: int
    out: str
    err: str


def assemble(place: Path) -> Path:
    """Put the golden place together in `place`, which is there and empty; returns it."""
    for name in ("author", "team", "home", "registry", "store", "data"):
        shutil.copytree(GOLDEN / name, place / name)
    for name in ("photos", "masks"):
        for project in ("author", "team", "home"):
            shutil.copytree(GOLDEN / name, place / project / "recipes" / name)
    shutil.copy(GOLDEN / "C.safetensors", place)
    assemble_base(place / "base")
    return place


@contextmanager
def surroundings(place: Path, project: str) -> Iterator[None]:
    """Be in a project of the place, with its store and keys and nothing else of this machine."""
    names = ("NO_COLOR", "FORCE_COLOR", "PERF_PROJECT", "PERF_LOCKED", "PERF_ALLOW_DOWNLOAD")
    before = dict(os.environ)
    here = Path.cwd()
    for name in names:
        os.environ.pop(name, None)
    os.environ |= {
        "PERF_CACHE_DIR": str(place / "store"),
        "PERF_DATA_DIR": str(place / "data"),
        "PERF_SIGNING_KEY": SIGNING_KEY,
        "COLUMNS": "200",
        "HF_HUB_OFFLINE": "1",
    }
    os.chdir(place / project)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ |= before


def perf(place: Path, project: str, *arguments: str) -> Said:
    """Run a command in this process."""
    from typer.testing import CliRunner

    from perfusion_registry.cli import app

    with surroundings(place, project):
        result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def portable(text: str, place: Path) -> str:
    """What a command said, without the place's own path."""
    return text.replace(str(place.resolve()), ROOT).replace(str(place), ROOT)


def golden_json(name: str) -> Any:
    """A golden of JSON, parsed."""
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def as_json(value: Any) -> str:
    """JSON as the goldens have it, to be read and compared line by line."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
