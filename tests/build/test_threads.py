"""Threads: how they wait, how many there are, and what an interrupted training goes on with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from perfusion_registry.artifact import save_artifact
from perfusion_registry.build import training
from perfusion_registry.build.checkpoint import progress_of
from perfusion_registry.reporter import Silent
from tests.build.test_training import picture, slow_build


class Telling(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(2):
        picture(seed).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def interrupted(
    base: Path, photos: Path, workspace: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build with so many threads that ends after a few steps, with a checkpoint."""
    torch.set_num_threads(threads)
    step = training.training_step

    def stopping(inputs: training.TrainInputs, state: training.TrainState, *more: Any) -> float:
        if state.step == 6:
            raise KeyboardInterrupt
        return step(inputs, state, *more)

    with monkeypatch.context() as patched:
        patched.setenv("PERF_CHECKPOINT_SECONDS", "0")
        patched.setattr(training, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt):
            slow_build(base, photos, workspace)


def test_a_resume_has_the_threads_that_it_began_with(
    tiny_base_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tiny_base_folder, photos, tmp_path / "work", 1, monkeypatch)
    progress = progress_of(tmp_path / "work" / "training.safetensors")
    assert progress is not None
    assert progress.threads == 1
    torch.set_num_threads(2)
    told = Telling()
    resumed = slow_build(tiny_base_folder, photos, tmp_path / "work", reporter=told)
    assert told.notes[0] == "hugsy: goes on with 1 thread, as it was begun (--threads 2 starts over)"
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    whole = slow_build(tiny_base_folder, photos, tmp_path / "elsewhere")
    assert save_artifact(resumed) == save_artifact(whole)


def test_a_resume_with_other_threads_that_were_asked_for_starts_over(
    tiny_base_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tiny_base_folder, photos, tmp_path / "work", 2, monkeypatch)
    torch.set_num_threads(1)
    told = Telling()
    again = slow_build(tiny_base_folder, photos, tmp_path / "work", threads=1, reporter=told)
    assert told.notes == ["hugsy: what was interrupted had 2 threads; with 1 it starts over"]
    whole = slow_build(tiny_base_folder, photos, tmp_path / "elsewhere")
    assert save_artifact(again) == save_artifact(whole)


SHOWN = """
import os, sys
from perfusion_registry.cli import main
sys.argv = ["perf", "cache", "dir"]
try:
    main()
except SystemExit:
    pass
print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("said", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_that_wait_sleep_soon_unless_somebody_says_otherwise(
    said: dict[str, str], spins: str, tmp_path: Path
) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names} | said
    command = [sys.executable, "-c", SHOWN]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == spins


ASKED = """
import sys
from typer.testing import CliRunner
from perfusion_registry.cli import app
if sys.argv[1] == "before":
    import torch
CliRunner().invoke(app, ["build", "--threads", "3"])
import torch
print(torch.get_num_threads())
"""


@pytest.mark.parametrize("imported", ["before", "after"])
def test_a_command_has_the_threads_that_it_is_asked_to(imported: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKED, imported]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["3"]
