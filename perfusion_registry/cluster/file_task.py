"""Tasks whose result is a file: in the store of a machine that has it, and in what machines share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from perfusion_registry.artifact import Store
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.cluster.shared_store import SharedStore


@dataclass(frozen=True)
class FileTask:
    """What such tasks have in common; each says what `run` does, and what `unpacked` makes of the file.

    digest: of all that decides about the file, which is shared under it.
    """

    FILE: ClassVar[str]
    """The file's name."""
    digest: str

    @property
    def checkpoints(self) -> str | None:
        """None: there are none."""
        return None

    def path(self, store: Store) -> Path:
        """Where a machine has the file, or would have it; no folder is made."""
        return store.begun(self.digest) / self.FILE

    def steps(self, checkpoint: Path | bytes) -> int:
        """0, as there are none."""
        return 0

    def fetch(self, shared: SharedStore, store: Store) -> bool:
        """Bring the file here, unless it is."""
        path = self.path(store)
        return path.exists() or shared.fetch_result(self.digest, path)

    def give(self, shared: SharedStore, store: Store) -> bool:
        """Share the file. Where another machine was faster, and its processor rounds otherwise, its file is
        to take the place of this one, which goes; so it does where somebody else has taken this one away."""
        path = self.path(store)
        try:
            given = shared.give_result(self.digest, path)
        except (FileNotFoundError, PerfError):
            if path.exists():
                raise
            return False  # with one store, whoever asked for the same has it now
        if not given:
            path.unlink(missing_ok=True)
        return given

    def packed(self, result: None) -> str:
        """Nothing: the file says it."""
        return ""
