"""A project as a program has it: where it is, and how each operation gets its workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from perfusion_registry.library.arguments import Answering
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.reporter import Reporter

R = TypeVar("R")


class OpenedProject(Answering):
    """What all parts of `Project` have: the folder, the store, and whoever hears of progress."""

    def __init__(self, folder: Path, store: Path | None, offline: bool, reporter: Reporter) -> None:
        self._folder = folder.absolute()  # wherever the program goes from here
        self._store = store
        self._offline = offline
        self._reporter = reporter

    def __repr__(self) -> str:
        return f"Project({str(self.root)!r})"

    def workspace(self) -> Workspace:
        """An opened workspace, for functions of `perfusion_registry.operations`; a context manager."""
        return Workspace.open(
            self._folder,
            store=self._store,
            offline=self._offline,
            reporter=self._reporter,
            lockfile_alone=True,
        )

    def _run(self, operation: Callable[[Workspace], R]) -> R:
        with self.workspace() as workspace:
            return operation(workspace)

    @property
    def root(self) -> Path:
        """The folder of the manifest, or of the lockfile where there is no manifest."""
        with self.workspace() as workspace:
            return workspace.manifest_path.parent
