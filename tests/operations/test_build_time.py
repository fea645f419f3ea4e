"""What a build says of its time: beforehand, by the last one of its kind, and in bars that move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perfusion_registry.artifact.durations import BuildTime, Durations
from perfusion_registry.cli import app
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.build_time import Foretold, how_long
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.options import TrainingOptions
from perfusion_registry.reporter import Silent, Stage
from tests.operations.conftest import edit

ON_THE_CPU = ComputeOptions(device="cpu")


@dataclass
class HeardStage:
    """What was told of a stage. moves: how often it advanced by something."""

    title: str
    total: int | None
    done: int = 0
    moves: int = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps
        self.moves += steps > 0


@dataclass
class Hearing(Silent):
    stages: list[HeardStage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        self.stages.append(HeardStage(title, total))
        yield self.stages[-1]

    def note(self, text: str) -> None:
        self.notes.append(text)


def heard(project: Path, *, force: bool = False) -> Hearing:
    """What a build tells."""
    hearing = Hearing()
    with Workspace.open(project, reporter=hearing) as workspace:
        (row,) = build(workspace, BuildOptions(force=force, compute=ON_THE_CPU)).built
    assert row.trained
    return hearing


def test_bars_move_all_the_time_and_end_full(project: Path) -> None:
    recipe = project / "recipes" / "bear.toml"
    edit(recipe, "validation_steps = 1", "validation_steps = 7")
    edit(recipe, 'mask = "none"', 'mask = "attention"\npair_prompts = ["a {} beside a boat"]')
    stages = {stage.title: stage for stage in heard(project).stages}
    for stage in stages.values():
        assert stage.done == (stage.total or 0), stage
    assert stages["bear: choosing the best step"].moves == 7  # each step of the pictures, drawn together
    assert stages["bear: drawing 2 pictures of pairs"].moves == 7 + 6  # and where its thing is in them
    assert stages["bear: preparing 3 images"].moves == 3 + 6 + 1  # read, looked at, encoded
    assert TrainingOptions().validate_every > 1  # so nothing else makes them move


def test_the_steps_are_said_beforehand_and_then_the_time(project: Path) -> None:
    first = heard(project)
    assert first.notes[0] == "1 concept to train, 1 step; how long that takes is told after the first of them"
    again = heard(project, force=True)
    assert again.notes[0].startswith("1 concept to train, 1 step: about ")
    assert again.notes[0].endswith("as it took here the last time")
    # Planted: what the last one took. Another number of steps takes as much longer.
    (kept,) = (project / "store" / "durations").iterdir()
    Durations(project / "store").keep(kept.name, BuildTime(step=2.0, rest=60.0))
    edit(project / "recipes" / "bear.toml", "\nsteps = 1\n", "\nsteps = 30\n")
    said = CliRunner().invoke(app, ["build", "--dry-run", "--device", "cpu"])
    assert "bear 1.0.0: options changed; 30 steps, about 2 min 00 s" in " ".join(said.stdout.split())
    # Of what is there already nothing is foretold.
    edit(project / "recipes" / "bear.toml", "\nsteps = 30\n", "\nsteps = 1\n")
    with Workspace.open(project) as workspace:
        assert build(workspace, BuildOptions(dry_run=True, compute=ON_THE_CPU)).needed == ()


def test_what_cannot_be_read_is_as_good_as_not_there(tmp_path: Path) -> None:
    durations = Durations(tmp_path)
    durations.keep("a", BuildTime(step=1.0, rest=2.0))
    assert durations.latest("a") == BuildTime(step=1.0, rest=2.0)
    (tmp_path / "durations" / "a").write_text('{"step": -1, "rest": 0}', encoding="utf-8")
    assert durations.latest("a") is None
    assert durations.latest("b") is None
    (tmp_path / "file").write_text("", encoding="utf-8")
    Durations(tmp_path / "file").keep("a", BuildTime(step=1.0, rest=2.0))  # no folder can be made there


@pytest.mark.parametrize(
    ("foretold", "processes", "said"),
    [
        ([(200, 90.0, False)], 1, "1 concept to train, 200 steps: about 1 min 30 s, as it"),
        ([(200, 90.0, False)] * 2, 2, "2 concepts to train, 200 steps each: about 1 min 30 s, as it"),
        ([(200, 90.0, True)], 1, "1 concept to train, 200 steps: about 1 min 30 s at most, as it"),
        ([(200, 90.0, False), (100, None, False)], 1, "100 and 200 steps; how long that takes is told"),
    ],
)
def test_one_line_for_all(foretold: list[tuple[int, float | None, bool]], processes: int, said: str) -> None:
    assert said in how_long([Foretold(*one) for one in foretold], processes)
