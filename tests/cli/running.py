"""Commands, run in this process and in others, and what they said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from tests import forked
from tests.operations.stand_in import stand_in


@dataclass(frozen=True)
class Said:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The JSON that it printed, which is as its schema says."""
        said = dict(json.loads(self.out))
        if "schema" in said:
            outputs().validate(said)
        return said


@cache
def outputs() -> Any:
    """The schema of everything that commands print with --json."""
    path = Path(__file__).parents[2] / "schemas" / "output.schema.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


Perf = Callable[..., Said]


def perf_process(*arguments: str) -> list[str]:
    """The command line of a process of its own, to be executed (`subprocess`) or forked (`forked`)."""
    return [sys.executable, "-c", "from perfusion_registry.cli import main; main()", *arguments]


def run_process(*arguments: str) -> Said:
    run = forked.run(perf_process(*arguments), capture_output=True, text=True)
    return Said(run.returncode, run.stdout, run.stderr)


def edit(path: Path, old: str, new: str) -> None:
    """Put `new` in the place of `old`, which is in the file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def git(folder: Path, *arguments: str, code: int = 0) -> str:
    """What git said and complained."""
    run = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == code, run
    return run.stdout + run.stderr


def release(perf: Perf, project: Path, version: str, *options: str) -> None:
    """Publish the project's bear as this version."""
    recipe = project / "recipes" / "bear.toml"
    lines = recipe.read_text(encoding="utf-8").split("\n")
    lines = [f'version = "{version}"' if line.startswith("version") else line for line in lines]
    recipe.write_text("\n".join(lines), encoding="utf-8")
    stand_in(project)
    said = perf("publish", "bear", *options)
    assert said.code == 0, said.err
