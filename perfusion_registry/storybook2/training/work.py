"""The folder that a training lives in: its frozen code, its log, its locks, and where everything is kept."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from perfusion_registry.errors import PerfError

PACKAGE = "perfusion_registry"


def default_work() -> Path:
    """Where a training is kept if nobody says: the user's cache folder."""
    return Path(platformdirs.user_cache_dir("storybook2"))


@dataclass(frozen=True)
class Work:
    """A work folder."""

    root: Path

    @property
    def code(self) -> Path:
        """The frozen copy of the package, a folder for PYTHONPATH."""
        return self.root / "code"

    @property
    def pause(self) -> Path:
        """The lock that holds the training while others want the machine quiet."""
        return self.root / "pause.lock"

    @property
    def drawings(self) -> Path:
        """Shards with pictures."""
        return self.root / "drawings"

    @property
    def latents(self) -> Path:
        """Encoded shards."""
        return self.root / "latents"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's folder."""
        return self.root / "tokenizer"

    @property
    def encoder(self) -> Path:
        """The folder of the linear transform that all latents are made by."""
        return self.root / "encoder"

    @property
    def vae(self) -> Path:
        """The chosen autoencoder, a diffusers folder."""
        return self.root / "vae"

    @property
    def sheets(self) -> Path:
        """Sheets of samples."""
        return self.root / "sheets"

    def checkpoint(self, stage: str) -> Path:
        """Where a stage keeps what it needs to go on."""
        return self.root / f"{stage}.pt"

    def log(self, line: str) -> None:
        """Add a line with the time to the log, and print it."""
        told = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}"
        print(told, flush=True)
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "log.txt").open("a", encoding="utf-8") as file:
            file.write(told + "\n")

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Hold the folder's lock of that name for the block; a PerfError where another process holds it.

        The kernel drops it with the process, however that ends.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / f"{name}.lock"
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise PerfError(
                    f"a training of this folder already runs, as process {file.read().strip() or '?'}",
                    where=str(path),
                    hint="follow it in log.txt, or end that process first",
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def is_running(self, name: str) -> bool:
        """Whether a process holds the lock of that name."""
        try:
            with self.alone(f"{name}"):
                return False
        except PerfError:
            return True


def move_into_place(beside: Path, target: Path) -> None:
    """Rename a finished folder; where another process was first, what it made stays."""
    try:
        os.rename(beside, target)
    except OSError:
        if not target.exists():
            raise
        shutil.rmtree(beside)


def freeze(work: Work) -> Path:
    """Copy the package as it is now into the work folder, without the weights that ship; returns the copy.

    A copy that is there is replaced. A training that runs has read its code and is not disturbed.
    """
    source = Path(sys.modules[PACKAGE].__file__ or "").parent
    beside, target = work.root / f"code-{os.getpid()}", work.code
    ignored = shutil.ignore_patterns("__pycache__", "weights", "*.pyc")
    shutil.copytree(source, beside / PACKAGE, ignore=ignored)
    if target.exists():
        shutil.rmtree(target)
    os.rename(beside, target)
    return target


def detach(work: Work, arguments: Sequence[str]) -> int:
    """Start `python -m ...training WORK ARGUMENTS` from the frozen copy, in a session of its own that
    outlives this one and its terminal; returns its process number."""
    if not (work.code / PACKAGE).is_dir():
        raise PerfError("there is no frozen code to run", where=str(work.code), hint="freeze it first")
    environment = {**os.environ, "PYTHONPATH": str(work.code), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", f"{PACKAGE}.storybook2.training", str(work.root), *arguments]
    with (work.root / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=work.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return process.pid


def give_way() -> None:
    """Take the lowest priority. Where the kernel shares the processor among sessions first (automatic
    grouping), that counts within the training's own session only, and it keeps its session's share beside
    others."""
    os.nice(19)
