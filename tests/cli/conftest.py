"""A project on the tiny base, with images and a covariance of its own."""

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
import pytest
from PIL import Image
from typer.testing import CliRunner

from perfusion_registry.artifact import CACHE_VARIABLE
from perfusion_registry.trust import DATA_VARIABLE, SIGNING_KEY_VARIABLE


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


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a store of its own and plain output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "store"))
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    monkeypatch.delenv(SIGNING_KEY_VARIABLE, raising=False)
    for name in ("NO_COLOR", "FORCE_COLOR", "PERF_PROJECT", "PERF_LOCKED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def perf(place: Path) -> Perf:
    """Run a command inside this process."""
    from perfusion_registry.cli import app

    def run(*arguments: str) -> Said:
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


def perf_process(*arguments: str) -> list[str]:
    """The command line of a process of its own."""
    return [sys.executable, "-c", "from perfusion_registry.cli import main; main()", *arguments]


def run_process(*arguments: str) -> Said:
    run = subprocess.run(perf_process(*arguments), capture_output=True, text=True, check=False)
    return Said(run.returncode, run.stdout, run.stderr)


@pytest.fixture
def pictures(place: Path) -> Path:
    """Three small pictures, one of them as a camera would call it."""
    folder = place / "photos"
    folder.mkdir()
    for number, name in enumerate(("1.png", "2.png", "IMG_3.JPG")):
        Image.effect_noise((64, 64), 60 + 30 * number).convert("RGB").save(folder / name)
    return folder


@pytest.fixture
def project(perf: Perf, place: Path, pictures: Path, tiny_base_folder: Path) -> Path:
    """A project on the tiny base with one concept, not built."""
    import torch
    from safetensors.torch import save_file

    sample = torch.randn(200, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert perf("init", "--base", str(tiny_base_folder)).code == 0
    save_file({"C": sample.T @ sample / 200}, place / "C.safetensors")
    manifest = place / "perfusion.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(
        text.replace("\n# Each", 'covariance = "C.safetensors"\n\n# Each', 1), encoding="utf-8"
    )
    assert perf("add", "bear", "--super", "teddy", "--images", "photos/*").code == 0
    recipe = place / "recipes" / "bear.toml"
    quick = '\n[train]\nmask = "none"\nvalidation_steps = 1\nvalidation_prompts = ["a photo of a {}"]\n'
    recipe.write_text(recipe.read_text(encoding="utf-8") + quick, encoding="utf-8")
    return place
