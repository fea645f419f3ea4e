"""A cluster of one other machine without Ray: orders are packed, shared and done as ever, in this process,
with a store of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.cluster import connection, pool
from perfusion_registry.cluster.address import AUTO, ClusterAddress
from perfusion_registry.cluster.driver import Event
from perfusion_registry.cluster.inputs import unpack
from perfusion_registry.cluster.node import _done
from perfusion_registry.cluster.shared_store import SharedStore
from perfusion_registry.cluster.tasks import Order, Outcome
from perfusion_registry.reporter import Silent


@dataclass
class OtherMachine:
    """A machine and its cluster. did: the titles of all tasks that it was given. after: what happens when it
    has done one."""

    folder: Path
    did: list[str] = field(default_factory=list)
    after: Any = None

    @property
    def address(self) -> ClusterAddress:
        """What it shares with this one."""
        return ClusterAddress(AUTO, str(self.folder / "shared"))

    def drive(self, _: Any, order: Order, *, local: bool = False) -> Iterator[Event]:
        """Do an order."""
        assert order.shared_store is not None
        shared, store = SharedStore(order.shared_store), Store(self.folder / "store")
        begun = unpack(order.begin, shared, store)(Silent())
        for number, (title, packed) in enumerate(order.tasks):
            self.did.append(title)
            task = unpack(packed, shared, store)
            outcome = Outcome(task.packed(_done(task, begun, shared, store, Silent())))
            if self.after is not None:
                self.after()
            yield [], {number: Outcome.loaded(outcome.dumped())}


def other_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> OtherMachine:
    """One that whatever is asked of a cluster goes to."""

    @contextmanager
    def connected(on: str) -> Iterator[None]:
        yield None

    machine = OtherMachine(folder)
    monkeypatch.setattr(connection, "require_ray", lambda: None)
    for name, value in (("require_ray", lambda: None), ("connected", connected), ("drive", machine.drive)):
        monkeypatch.setattr(pool, name, value)
    return machine
