"""What a machine does with checkpoints that are too large to share, and with results that others have."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.build.checkpoint import CHECKPOINT
from perfusion_registry.cluster import node, shared_store
from perfusion_registry.cluster.file_task import FileTask
from perfusion_registry.cluster.node import _done
from perfusion_registry.cluster.shared_store import SharedStore
from perfusion_registry.reporter import Silent

DIGEST = "a" * 64


class Heard(Silent):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True)
class Writing(FileTask):
    """Writes its checkpoint for a while, and then its bytes."""

    FILE: ClassVar[str] = "written"
    title: ClassVar[str] = "a letter"
    checkpoint: bytes = b""
    result: bytes = b"done"

    @property
    def checkpoints(self) -> str:
        return self.digest

    def run(self, worker: Store) -> None:
        folder = worker.workspace(self.digest)
        if self.path(worker).exists():
            return
        for _ in range(10 if self.checkpoint else 0):
            (folder / CHECKPOINT).write_bytes(self.checkpoint)
            time.sleep(0.05)
        self.path(worker).write_bytes(self.result)


def test_checkpoints_that_are_too_large_are_told_and_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (node, shared_store):
        monkeypatch.setattr(module, "LARGEST", 1000)
    monkeypatch.setattr(node, "LOOK", 0.02)
    shared, store, heard = SharedStore(str(tmp_path / "shared")), Store(tmp_path / "store"), Heard()
    _done(Writing(DIGEST, checkpoint=b"1" * 2000), store, shared, store, heard)
    assert heard.notes == [
        "a letter: its checkpoint of 2.0 KB is too large to share; another machine would begin from the start"
    ]
    assert shared.checkpoint(DIGEST) is None
    other = Store(tmp_path / "other")
    assert Writing(DIGEST).fetch(shared, other)
    assert Writing(DIGEST).path(other).read_bytes() == b"done"


def test_a_result_that_comes_too_late_makes_room(tmp_path: Path) -> None:
    shared = SharedStore(str(tmp_path / "shared"))
    first, late = Store(tmp_path / "first"), Store(tmp_path / "late")
    _done(Writing(DIGEST), first, shared, first, Silent())
    Writing(DIGEST, result=b"otherwise").run(late)
    _done(Writing(DIGEST, result=b"otherwise"), late, shared, late, Silent())
    assert Writing(DIGEST).path(late).read_bytes() == b"done"


def test_a_result_that_somebody_takes_away_is_fetched_again(tmp_path: Path) -> None:
    """As who asked for the same, with the same store, and has it: on a machine that is a node, too."""
    shared, store = SharedStore(str(tmp_path / "shared")), Store(tmp_path / "store")

    class Taken(Writing):
        def run(self, worker: Store) -> None:
            super().run(worker)
            if not shared.fetch_result(DIGEST, tmp_path / "theirs"):
                self.give(shared, worker)
                worker.discard_workspace(self.digest)

    _done(Taken(DIGEST), store, shared, store, Silent())
    assert Writing(DIGEST).path(store).read_bytes() == b"done"
