"""The pool of worker processes: what runs where, what comes back, and how it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.reporter import Reporter, Silent, Stage
from perfusion_registry.workers import worker_pool
from tests import forked


class Loaded:
    """What a process loads once."""

    def __init__(self, name: str, reporter: Reporter) -> None:
        self.name, self.reporter, self.tasks = name, reporter, 0
        reporter.note(f"loaded {name}")


@dataclass(frozen=True)
class Square:
    """A number to square."""

    number: int

    @property
    def title(self) -> str:
        return f"the square of {self.number}"

    def run(self, worker: Loaded) -> tuple[int, int, int]:
        worker.tasks += 1
        with worker.reporter.stage(self.title, 2) as stage:
            stage.advance(2, "squared")
        return os.getpid(), worker.tasks, self.number**2


@dataclass(frozen=True)
class Fail(Square):
    """One that cannot be squared."""

    def run(self, worker: Loaded) -> tuple[int, int, int]:
        raise CheckFailedError("this number has no square", where="here", hint="take another")


@dataclass(frozen=True)
class Die(Square):
    """One that ends its process."""

    def run(self, worker: Loaded) -> tuple[int, int, int]:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().run(worker)


@dataclass(frozen=True)
class Hang(Square):
    """One that takes for ever."""

    def run(self, worker: Loaded) -> tuple[int, int, int]:
        print("at work", flush=True)
        time.sleep(3600)
        return super().run(worker)


def cannot_load(reporter: Reporter) -> Loaded:
    """What processes begin with, where it cannot be had."""
    raise PerfError("there is no x", where="x.toml", hint="make one")


class Heard(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.advanced = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        self.notes.append(title)
        yield self  # type: ignore[misc]

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.advanced += steps


def test_one_job_is_this_process() -> None:
    heard = Heard()
    with worker_pool(partial(Loaded, "x"), 1, heard) as run:
        done = [result for _, result in run([Square(2), Square(3)])]
    assert done == [(os.getpid(), 1, 4), (os.getpid(), 2, 9)]
    assert heard.notes == ["loaded x", "the square of 2", "the square of 3"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_several_jobs_load_once_report_here_and_end_together() -> None:
    heard = Heard()
    tasks = [Square(number) for number in range(8)]
    with worker_pool(partial(Loaded, "x"), 2, heard) as run:
        assert multiprocessing.active_children() == []  # before there is something to do
        done = dict(run(tasks))
        again = dict(run(tasks[:2]))
    assert {task.number: square for task, (_, _, square) in done.items()} == {n: n * n for n in range(8)}
    processes = {process for process, _, _ in (*done.values(), *again.values())}
    assert os.getpid() not in processes
    assert len(processes) == heard.notes.count("loaded x") == 2
    assert max(count for _, count, _ in again.values()) > 1  # of the same processes
    assert heard.advanced == 2 * 10
    assert multiprocessing.active_children() == []

    with worker_pool(partial(Loaded, "x"), 2, Silent()) as run:
        with pytest.raises(CheckFailedError) as caught:
            list(run([Square(1), Fail(2), Square(3)]))
        assert (caught.value.where, caught.value.hint) == ("here", "take another")
    assert multiprocessing.active_children() == []

    died = pytest.raises(PerfError, match="the square of 2` died; perhaps it ran out of memory")
    with worker_pool(partial(Loaded, "x"), 2, Silent()) as run, died:
        list(run([Square(1), Die(2), Square(3)]))
    assert multiprocessing.active_children() == []

    no_base = pytest.raises(PerfError, match="there is no x")
    with worker_pool(cannot_load, 2, Silent()) as run, no_base as refused:
        list(run(tasks))
    assert (refused.value.where, refused.value.hint) == ("x.toml", "make one")
    assert multiprocessing.active_children() == []

    with worker_pool(partial(Loaded, "x"), 2, Silent()) as run, closing(run(tasks)) as results:
        next(results)  # and leave
    assert multiprocessing.active_children() == []


ENDLESS = """
from functools import partial
from perfusion_registry.reporter import Silent
from perfusion_registry.workers import worker_pool
from tests.test_workers import Hang, Loaded
with worker_pool(partial(Loaded, "x"), 2, Silent()) as run:
    list(run([Hang(1), Hang(2)]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_workers_end_with_the_process_that_started_them_however_that_ends() -> None:
    command = [sys.executable, "-c", ENDLESS]
    with forked.Popen(command, cwd=forked.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["at work\n"] * 2
        process.kill()
        # They have its output as theirs: it ends when the last of them has.
        assert process.communicate(timeout=120)[0] == ""


BARS = """
from dataclasses import dataclass

from perfusion_registry.reporter import Silent
from perfusion_registry.workers import worker_pool


@dataclass(frozen=True)
class Bar:
    title: str = "bar"

    def run(self, worker):
        from tqdm import tqdm

        return sum(tqdm(range(3), disable=True))


def begin(reporter):
    return None


if __name__ == "__main__":
    with worker_pool(begin, 2, Silent(), preload=["perfusion_registry.base.preloaded"]) as run:
        print(sum(done for _, done in run([Bar(), Bar()])))
"""


@pytest.mark.slow
def test_bars_of_libraries_leave_nothing_behind_that_python_warns_of(tmp_path: Path) -> None:
    script = tmp_path / "bars.py"
    script.write_text(BARS)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert ran.stdout == "6\n"
    assert "leaked" not in ran.stderr
