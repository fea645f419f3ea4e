"""What a cluster does: tasks of operations, and an order of many of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from perfusion_registry.artifact import Store
from perfusion_registry.cluster.resources import TaskResources
from perfusion_registry.errors import CheckFailedError, PerfError

if TYPE_CHECKING:
    from perfusion_registry.cluster.shared_store import SharedStore

W = TypeVar("W", contravariant=True)


class ClusterTask(Protocol[W]):
    """A piece of work that any machine can do by itself, with a result that a store keeps.

    What a task tells of its result is text, so that nobody unpickles what came back.
    """

    @property
    def title(self) -> str:
        """What to call it while it runs."""

    @property
    def checkpoints(self) -> str | None:
        """The digest that its checkpoints are under, in a store and in what machines share; None where it has
        none."""

    def steps(self, checkpoint: Path | bytes) -> int:
        """How far a checkpoint is, so that the furthest is gone on with; 0 for what is none."""

    def fetch(self, shared: SharedStore, store: Store) -> bool:
        """Bring the result from what machines share to this one, if it is there, or else what it needs;
        whether it is there."""

    def give(self, shared: SharedStore, store: Store) -> bool:
        """Share the result. False where another machine was faster, to another result, which stays."""

    def run(self, worker: W) -> Any:
        """Do it with what the process has loaded; what is in the store already is not done again. Raises
        PerfError where it cannot be done."""

    def packed(self, result: Any) -> str:
        """The result in words, for another machine."""

    def unpacked(self, text: str, store: Store) -> Any:
        """The result again. store: has what it names by now."""


@dataclass(frozen=True)
class Order:
    """Work for a cluster. begin: packed, makes what tasks run with from a reporter. tasks: packed, each with
    its title. resources: of each; with_gpus: where any machine has a GPU. shared_store: its address. version:
    of perf, which all machines must have."""

    begin: bytes
    tasks: tuple[tuple[str, bytes], ...]
    resources: TaskResources
    with_gpus: TaskResources
    shared_store: str | None
    version: str


@dataclass(frozen=True)
class Outcome:
    """How a task ended: with its packed result, or with a mistake."""

    result: str | None = None
    error: PerfError | None = None

    def dumped(self) -> str:
        """As JSON."""
        if self.error is None:
            return json.dumps({"result": self.result})
        error = self.error
        told = {"what": error.what, "where": error.where, "hint": error.hint}
        return json.dumps({"error": told, "failed_check": isinstance(error, CheckFailedError)})

    @classmethod
    def loaded(cls, text: str) -> Outcome:
        """From what `dumped` gave."""
        said = json.loads(text)
        if "error" not in said:
            return cls(said["result"])
        kind = CheckFailedError if said["failed_check"] else PerfError
        told = said["error"]
        return cls(error=kind(told["what"], where=told["where"], hint=told["hint"]))
