"""Where work goes: a Ray cluster, and the store that its machines share. Imports without Ray."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.errors import PerfError

LOCAL, AUTO = "local", "auto"
SHARED_STORE_VARIABLE = "PERF_SHARED_STORE"
_JOBS = re.compile(r"https?://\S+\Z")
_CLUSTER = re.compile(r"auto|(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):\d{1,5}")


@dataclass(frozen=True)
class ClusterAddress:
    """A cluster. on: `local` starts one here and ends it; `auto` or HOST:PORT is one that this machine is a
    node of; `http://HOST:8265` takes jobs. shared_store: a folder that all machines see, or an `s3://`
    address; None where one machine's store is the only one.
    """

    on: str
    shared_store: str | None = None

    def __post_init__(self) -> None:
        """Raise PerfError for what is no address, and for a cluster whose machines share nothing."""
        if self.on == LOCAL:
            return
        if self.on.startswith("ray://"):
            raise PerfError(
                "Ray Client is not made for work that takes hours",
                where=f"--on {self.on}",
                hint="give the address that takes jobs: --on http://HOST:8265",
            )
        if not (_JOBS.match(self.on) or _CLUSTER.fullmatch(self.on)):
            raise PerfError(
                f"`{self.on}` is no Ray cluster",
                where=f"--on {self.on}",
                hint="say local, http://HOST:8265, or on a node of the cluster auto or HOST:6379",
            )
        if self.shared_store is None:
            raise PerfError(
                "the machines of a cluster need a store that all of them reach",
                where=f"--on {self.on}",
                hint=f"--shared-store FOLDER or s3://BUCKET/PREFIX, or set {SHARED_STORE_VARIABLE}",
            )

    @property
    def takes_jobs(self) -> bool:
        """Whether work is sent there, rather than led from here."""
        return _JOBS.match(self.on) is not None

    @classmethod
    def read(cls, on: str | None, shared_store: str | None) -> ClusterAddress | None:
        """What the options say, and of the store the environment; None where nobody asked for a cluster. A
        store that only the environment names is then of no interest; one that was named is a mistake."""
        if on is None:
            if shared_store is not None and shared_store != os.environ.get(SHARED_STORE_VARIABLE):
                raise PerfError(
                    "one machine alone shares no store",
                    where=f"--shared-store {shared_store}",
                    hint="say which cluster, with --on, or leave it out",
                )
            return None
        store = shared_store or os.environ.get(SHARED_STORE_VARIABLE) or None
        if store is not None and "://" not in store:
            store = str(Path(store).expanduser().absolute())
        return cls(on.strip(), store)
