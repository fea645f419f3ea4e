"""Starting a Ray cluster on this machine, or joining one that it is a node of."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from perfusion_registry.amounts import count, size
from perfusion_registry.cluster.address import AUTO, LOCAL
from perfusion_registry.cluster.resources import TaskResources
from perfusion_registry.errors import PerfError
from perfusion_registry.extras import lacking

_PATIENCE = 5.0  # seconds for the head of a cluster to answer
OBJECTS = 128 * 2**20
"""Bytes of a local cluster's object store: results go through the store, and Ray's take none but words."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}
"""Ray tells its makers nothing, leaves processes that ask for no GPU the variables that name some, and prints
nothing of machines that died: it would print it on stdout, which is for data."""


def require_ray() -> ModuleType:
    """The library, told to send nobody anything. Raises PerfError where it is not installed."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise lacking(error, "to work on several machines") or error from error
    module: ModuleType = ray
    return module


@contextmanager
def connected(on: str) -> Iterator[ModuleType]:
    """Ray, connected: to a cluster of this machine's processors that ends with the context (`local`), or to
    one that this machine is a node of. Raises PerfError where there is none."""
    if ":" in on and not _answers(on):  # Ray itself would try for minutes
        raise _no_cluster(on)
    ray = require_ray()
    if on == LOCAL:
        ray.init(
            address="local",
            num_cpus=_processors(),
            include_dashboard=False,
            object_store_memory=OBJECTS,
            log_to_driver=False,
            logging_level="error",
            _node_ip_address="127.0.0.1",
        )
    else:
        try:
            ray.init(address=on, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(on) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _answers(address: str) -> bool:
    """Whether anything listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except (OSError, OverflowError):
        return False
    return True


def _no_cluster(on: str) -> PerfError:
    if on == AUTO:
        what, join = "this machine is no node of a cluster", "join one (`ray start --address HOST:6379`)"
    else:
        what, join = f"this machine is no node of a cluster at {on}", f"join it (`ray start --address {on}`)"
    hint = f"{join}, or send a job to one: --on http://HOST:8265"
    return PerfError(what, where=f"--on {on}", hint=hint)


def unmet(ray: ModuleType, needs: TaskResources) -> str | None:
    """What no machine of the cluster has, in a sentence; None where one has it."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for node in nodes:
        asked = {"CPU": needs.cpus, "GPU": needs.gpus, "memory": needs.memory}
        if all(node.get(what, 0) >= number for what, number in asked.items()):
            return None
    largest = {
        what: int(max((node.get(what, 0) for node in nodes), default=0)) for what in ("CPU", "GPU", "memory")
    }
    has = count(largest["CPU"], "processor"), count(largest["GPU"], "GPU"), size(largest["memory"])
    return (
        f"no machine of the cluster has what a task asks for ({needs.told}): the most that any has is "
        f"{has[0]}, {has[1]} and {has[2]}"
    )


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
