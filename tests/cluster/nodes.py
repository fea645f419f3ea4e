"""Ray's own cluster of several nodes on one machine: each with its own home, cache and work folder."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

MEGABYTE = 2**20
_SOON = {  # a node that is lost is noticed in a second or two, instead of twenty
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 2,
}
_OWN = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Processes of Ray that are at no task."""


class Nodes:
    """A head that does no tasks, and nodes that do; a context manager. root: where their homes are."""

    def __init__(self, root: Path, *, jobs: bool = False, **environment: str) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        self.root = root
        self.alive: dict[str, Any] = {}
        self.made = 0
        self._environment = environment
        head = {"num_cpus": 0, "object_store_memory": 100 * MEGABYTE, "include_dashboard": jobs}
        if jobs:
            head |= {"dashboard_port": 0}
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={**head, "env_vars": self._own("head"), "_system_config": _SOON},
        )

    @property
    def address(self) -> str:
        """Where a process of this machine joins it."""
        return str(self._cluster.address)

    @property
    def jobs(self) -> str:
        """Where it takes jobs."""
        return f"http://{self._cluster.head_node.webui_url}"

    def _own(self, name: str) -> dict[str, str]:
        home = self.root / name
        home.mkdir(parents=True)
        return {
            "HOME": str(home),
            "PERF_CACHE_DIR": str(home / "cache"),
            "PERF_DATA_DIR": str(home / "data"),
            "TMPDIR": str(self.root),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **self._environment,
        }

    def add(self, cpus: int = 1) -> str:
        """One node more, with a home of its own; its name."""
        self.made += 1
        name = f"node-{self.made}"
        self.alive[name] = self._cluster.add_node(
            num_cpus=cpus,
            object_store_memory=80 * MEGABYTE,
            memory=4096 * MEGABYTE,
            env_vars=self._own(name),
        )
        return name

    def kill(self, name: str) -> None:
        """The power of a node goes off: all of its processes end at once."""
        children = self._processes(name)
        self._cluster.remove_node(self.alive.pop(name), allow_graceful=False)
        for process in children:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def working(self) -> list[str]:
        """What tasks the nodes are at, as Ray names their processes."""
        titles = []
        for process in (process for name in self.alive for process in self._processes(name)):
            with suppress(psutil.NoSuchProcess):
                title = " ".join(process.cmdline()).strip()
                if title.startswith("ray::") and not title.startswith(_OWN):
                    titles.append(title)
        return titles

    def _processes(self, name: str) -> list[psutil.Process]:
        raylet = self.alive[name].all_processes["raylet"][0].process.pid
        return list(psutil.Process(raylet).children(recursive=True))

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *error: object) -> None:
        self._cluster.shutdown()
