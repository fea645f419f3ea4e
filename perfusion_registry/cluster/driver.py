"""Leading an order on a cluster: its tasks submitted, what they tell collected, their ends waited for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from types import ModuleType
from typing import Any

from perfusion_registry.cluster.connection import unmet
from perfusion_registry.cluster.node import work
from perfusion_registry.cluster.reporting import EVERY, MessageQueue, Told
from perfusion_registry.cluster.tasks import Order, Outcome
from perfusion_registry.errors import PerfError

RETRIES = 10
"""Machines that a task may lose before it is given up; it goes on from its last checkpoint on another."""

ALL = -1
"""In the place of a task's number: it is said of all of them."""

Event = tuple[list[Told], dict[int, Outcome]]
"""What was told since the last event, and which tasks ended how."""


def drive(ray: ModuleType, order: Order, *, local: bool = False) -> Generator[Event]:
    """Have the cluster do an order, and tell of it until all is done. Closed early, it leaves nothing
    running.

    local: the cluster is this machine, and no other will join it. Raises PerfError where that has not what a
    task asks for; the mistake of a task is its outcome.
    """
    needs = order.with_gpus if ray.cluster_resources().get("GPU") else order.resources
    lack = unmet(ray, needs)
    if lack is not None and local:
        raise PerfError(lack, where="--on local", hint="ask for less (--threads, --device)")
    if lack is not None:
        yield [(ALL, "warn", f"{lack}; waiting for one that has")], {}
    queue = _queue(ray)
    asked = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory}
    task = ray.remote(work)
    begin = ray.put(order.begin)
    running: dict[Any, int] = {}
    try:
        for number, (title, packed) in enumerate(order.tasks):
            named = task.options(name=title, max_retries=RETRIES, **asked)
            arguments = begin, packed, number, order.shared_store, needs.cpus, order.version, queue
            running[named.remote(*arguments)] = number
        while running:
            ended, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
            if not ended:
                ended, _ = ray.wait(list(running), num_returns=1, timeout=EVERY)
            outcomes = {}
            for one in ended:
                number = running.pop(one)
                outcomes[number] = _outcome(ray, one, order.tasks[number][0])
            yield ray.get(queue.take.remote()), outcomes
    finally:
        for one in running:
            with suppress(ray.exceptions.RayError):
                ray.cancel(one, force=True)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=10)
        ray.kill(queue)


def _queue(ray: ModuleType) -> Any:
    """The queue, on this machine, so that it ends with who reads it and with nothing else."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.remote(MessageQueue).options(num_cpus=0, scheduling_strategy=here).remote()


def _outcome(ray: ModuleType, ended: Any, title: str) -> Outcome:
    """How a task ended."""
    errors = ray.exceptions
    try:
        return Outcome.loaded(ray.get(ended))
    except (errors.OutOfMemoryError, errors.WorkerCrashedError, errors.NodeDiedError) as error:
        if isinstance(error, errors.OutOfMemoryError):
            what = f"the machines that worked on `{title}` ran out of memory"
        else:
            what = f"{RETRIES + 1} processes that worked on `{title}` died; perhaps they ran out of memory"
        hint = "give the cluster machines with more memory; what is done stays done"
        return Outcome(error=PerfError(what, hint=hint))
