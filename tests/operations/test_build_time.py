"""What a build says of its time: beforehand, by the last one of its kind, and in bars that move."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perfusion_registry.artifact.durations import BuildTime, Durations
from perfusion_registry.build import training as loop
from perfusion_registry.cli import app
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.build_time import Foretold, foretell, how_long, still_to_do
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.plan import load_plan
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
    then: float = 0.0
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
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        self.stages.append(HeardStage(title, total, then))
        yield self.stages[-1]

    def note(self, text: str) -> None:
        self.notes.append(text)


class InterruptError(Exception):
    """As Ctrl-C."""


class Interrupting(Hearing):
    """A build that ends when its training has reached a step, or when a stage begins."""

    def __init__(self, at: int | str) -> None:
        super().__init__()
        self.at = at

    @contextmanager
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        if isinstance(self.at, str) and self.at in title:
            raise InterruptError
        with super().stage(title, total, then) as stage:
            yield Ending(stage, self.at) if title.endswith("training") else stage


@dataclass
class Ending:
    """A stage that is interrupted, a checkpoint's time after the step before."""

    stage: Stage
    at: int | str
    done: int = 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        if self.done == self.at:
            raise InterruptError
        self.done += steps
        self.stage.advance(steps, note)


@pytest.fixture(autouse=True)
def checkpoints_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """After each step, and not every ten seconds."""
    monkeypatch.setenv("PERF_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(loop, "SAVING_SHARE", 0)  # each step is kept, however slow the disk is


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
    assert first.notes[0] == "1 concept to train, 1 step: how long is told while the first trains"
    again = heard(project, force=True)
    assert again.notes[0].startswith("1 concept to train, 1 step: about ")
    assert again.notes[0].endswith(", as it took here the last time")
    # Planted: what the last one took. Another number of steps takes as much longer.
    for kept in (project / "store" / "durations").iterdir():
        Durations(project / "store").keep(kept.name, BuildTime(step=2.0, rest=60.0))
    edit(project / "recipes" / "bear.toml", "\nsteps = 1\n", "\nsteps = 30\n")
    said = CliRunner().invoke(app, ["build", "--dry-run", "--device", "cpu"])
    assert "bear 1.0.0: options changed; 30 steps, about 2 min 00 s" in " ".join(said.stdout.split())
    # Another project, in another number of processes: what was measured on this machine is known to it too.
    other = project.parent / "other"
    shutil.copytree(project, other, ignore=shutil.ignore_patterns("store", "perfusion.lock"))
    edit(other / "recipes" / "bear.toml", "\nsteps = 30\n", "\nsteps = 20\n")
    with Workspace.open(other) as workspace:
        planned = load_plan(workspace, force=True)
        shared = ComputeOptions(device="cpu", threads=3)
        told = [foretell(task, planned.store, planned.base, shared, 2) for task in planned.plan.tasks]
    assert how_long(told, 2) == [
        "1 concept to train, 20 steps: about 1 min 40 s, by a build here in other processes or threads"
    ]
    # What trained beside others took longer than it will alone.
    for kept in (project / "store" / "durations").iterdir():
        Durations(project / "store").keep(kept.name, BuildTime(step=2.0, rest=60.0, processes=2))
    with Workspace.open(other) as workspace:
        told = [foretell(task, planned.store, planned.base, shared, 1) for task in planned.plan.tasks]
    assert how_long(told)[0].startswith("1 concept to train, 20 steps: at most about 1 min 40 s, by a build")
    # Of what is there already nothing is foretold.
    edit(project / "recipes" / "bear.toml", "\nsteps = 30\n", "\nsteps = 1\n")
    with Workspace.open(project) as workspace:
        assert build(workspace, BuildOptions(dry_run=True, compute=ON_THE_CPU)).needed == ()


def test_the_time_left_of_a_training_counts_what_follows_it(project: Path) -> None:
    """Counted by pictures in the first build, and measured in the second."""
    first = {stage.title: stage for stage in heard(project).stages}
    assert first["bear: training"].then > 0
    assert first["bear: choosing the best step"].then > 0
    assert first["bear: judging what it became"].then == 0
    kept, alike = (project / "store" / "durations").iterdir()
    judging = Durations(project / "store").latest(kept.name)
    assert judging is not None
    assert judging.judging is not None
    assert 0 < judging.judging < judging.rest
    # Planted: 20 steps' time for all but the training, of which the verdict takes 15.
    for path in (kept, alike):
        Durations(project / "store").keep(path.name, BuildTime(step=2.0, rest=40.0, judging=30.0))
    again = {stage.title: stage for stage in heard(project, force=True).stages}
    assert again["bear: training"].then == pytest.approx(20)
    choosing = again["bear: choosing the best step"]
    assert choosing.then == pytest.approx(3 * (choosing.total or 0))


def test_an_interrupted_build_stands_at_its_step(project: Path) -> None:
    edit(project / "recipes" / "bear.toml", "\nsteps = 1\n", "\nsteps = 8\n")
    with pytest.raises(InterruptError), Workspace.open(project, reporter=Interrupting(5)) as workspace:
        build(workspace, BuildOptions(compute=ON_THE_CPU))

    def said(*words: str) -> str:
        return " ".join(CliRunner().invoke(app, [*words]).stdout.split())

    assert "begun: stands at step 5 of 8; perf build goes on" in said("list")
    assert "Would build bear 1.0.0: never built; 3 of 8 steps" in said("build", "--dry-run")
    (needed,) = json.loads(said("build", "--dry-run", "--json"))["needed"]
    assert needed["at_step"] == 5
    (known,) = json.loads(said("metadata", "--format-version", "1"))["concepts"]
    assert (known["state"], known["why"]) == (
        "to-build",
        "never built; stands at step 5 of 8; perf build goes on",
    )
    # With --force it begins anew, and nothing else is said.
    assert "bear 1.0.0: forced; 8 steps" in said("build", "--dry-run", "--force")
    # Other options are another training, which has not begun.
    edit(project / "recipes" / "bear.toml", "\nsteps = 8\n", "\nsteps = 9\n")
    assert "to build: never built" in said("list")
    edit(project / "recipes" / "bear.toml", "\nsteps = 9\n", "\nsteps = 8\n")
    goes_on = heard(project)
    assert goes_on.notes[0].startswith("1 concept to train, 3 of 8 steps, going on after step 5: how")
    (training,) = (stage for stage in goes_on.stages if stage.title == "bear: training")
    assert training.moves == 1 + 3
    assert "built" in said("list")


def test_what_is_trained_and_not_judged_says_so(project: Path) -> None:
    with (
        pytest.raises(InterruptError),
        Workspace.open(project, reporter=Interrupting("judging")) as workspace,
    ):
        build(workspace, BuildOptions(compute=ON_THE_CPU))
    told = " ".join(CliRunner().invoke(app, ["list"]).stdout.split())
    assert "begun: is trained, and has to be judged; perf build goes on" in told


def test_several_are_trained_by_their_length_and_each_is_told(project: Path) -> None:
    """In one process the shortest first, whatever their names; what is left is told behind each."""
    recipe = (project / "recipes" / "bear.toml").read_text(encoding="utf-8")
    manifest = project / "perfusion.toml"
    text = manifest.read_text(encoding="utf-8")
    for name, steps in (("apple", 3), ("cup", 2)):
        other = recipe.replace('name = "bear"', f'name = "{name}"').replace(
            "steps = 1\n", f"steps = {steps}\n"
        )
        (project / "recipes" / f"{name}.toml").write_text(other, encoding="utf-8")
        text = text.replace("[concepts]\n", f'[concepts]\n{name} = {{ recipe = "recipes/{name}.toml" }}\n')
    manifest.write_text(text, encoding="utf-8")
    hearing = Hearing()
    with Workspace.open(project, reporter=hearing) as workspace:
        rows = build(workspace, BuildOptions(compute=ON_THE_CPU)).built
    assert [row.name for row in rows] == ["bear", "cup", "apple"]
    plan = hearing.notes[:4]
    assert plan[0] == "3 concepts to train: how long is told while the first trains"
    assert plan[1:] == ["  bear   1 step", "  cup    2 steps", "  apple  3 steps"]
    left = [note for note in hearing.notes if " to go" in note]
    assert [note.partition(", about")[0] for note in left] == [
        "bear is built and locked; 2 concepts to go",
        "cup is built and locked; 1 concept to go",
    ]
    assert all(", about " in note for note in left)  # by what the first took


def test_what_cannot_be_read_is_as_good_as_not_there(tmp_path: Path) -> None:
    durations = Durations(tmp_path)
    durations.keep("a", BuildTime(step=1.0, rest=2.0))
    assert durations.latest("a") == BuildTime(step=1.0, rest=2.0)
    (tmp_path / "durations" / "a").write_text('{"step": -1, "rest": 0}', encoding="utf-8")
    assert durations.latest("a") is None
    assert durations.latest("b") is None
    (tmp_path / "file").write_text("", encoding="utf-8")
    Durations(tmp_path / "file").keep("a", BuildTime(step=1.0, rest=2.0))  # no folder can be made there


TEN = Foretold("ten", 10, 50.0)
HUNDRED = Foretold("hundred", 100, 90.0)


def test_what_is_left_takes_no_less_than_the_longest() -> None:
    """In several processes too, as it is said beforehand."""
    assert still_to_do([TEN, HUNDRED], 1) == "2 concepts to go, about 2 min 20 s"
    assert still_to_do([HUNDRED], 2) == "1 concept to go, about 1 min 30 s"
    assert still_to_do([HUNDRED, HUNDRED, TEN], 2) == "3 concepts to go, about 1 min 55 s"
    assert still_to_do([HUNDRED, replace(TEN, seconds=None)], 2) == "2 concepts to go"


@pytest.mark.parametrize(
    ("foretold", "processes", "said"),
    [
        ([HUNDRED], 1, ["1 concept to train, 100 steps: about 1 min 30 s, as it took here the last time"]),
        (
            [replace(HUNDRED, done=40)],
            1,
            [
                "1 concept to train, 60 of 100 steps, going on after step 40: about 1 min 30 s, as it took "
                "here the last time"
            ],
        ),
        ([HUNDRED, TEN], 1, ["2 concepts to train: about 2 min 20 s, as", "  ten      10", "  hundred  100"]),
        ([TEN, HUNDRED], 2, ["2 concepts to train: about 1 min 30 s, as", "  hundred  100", "  ten      10"]),
        ([TEN, replace(HUNDRED, seconds=None)], 1, ["2 concepts to train: how long is", "  ten", "  hund"]),
        ([], 1, []),
    ],
)
def test_what_is_said_beforehand(foretold: list[Foretold], processes: int, said: list[str]) -> None:
    lines = how_long(foretold, processes)
    assert [line[: len(part)] for line, part in zip(lines, said, strict=True)] == said
