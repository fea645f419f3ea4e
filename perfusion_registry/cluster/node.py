"""What a machine of a cluster does with a task: look whether it is done, go on where another machine
stopped, do it as any machine would, and share the result."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

from perfusion_registry.amounts import size
from perfusion_registry.artifact import Store
from perfusion_registry.artifact.locking import read_lock
from perfusion_registry.build.checkpoint import CHECKPOINT
from perfusion_registry.cache_folder import cache_dir
from perfusion_registry.cluster.inputs import unpack
from perfusion_registry.cluster.reporting import NodeReporter
from perfusion_registry.cluster.shared_store import LARGEST, SharedStore
from perfusion_registry.cluster.tasks import ClusterTask, Outcome
from perfusion_registry.errors import PerfError
from perfusion_registry.memory import REFUSED, short_of_memory
from perfusion_registry.recipe.writing import replace_bytes
from perfusion_registry.reporter import Reporter
from perfusion_registry.threads import use_threads, wait_briefly
from perfusion_registry.version import __version__

LOOK = 0.2
"""Seconds between looks whether there is a new checkpoint to share."""
_WORTH = 10
"""Sharing a checkpoint takes no more than one of so many seconds."""


def work(
    begin: bytes, task: bytes, number: int, shared_store: str | None, threads: int, version: str, queue: Any
) -> str:
    """Do one task in this process, which Ray has started for it or kept from the task before.

    Returns an `Outcome` as JSON; raises only what perf does not know.
    """
    reporter = _reporter()
    reporter.begin(queue, number, _machine())
    try:
        if version != __version__:
            raise PerfError(
                f"a machine of the cluster has perf {__version__}, and the work is of {version}",
                where=_machine(),
                hint="install one version of perf on all of them",
            )
        wait_briefly()
        use_threads(threads)
        shared = SharedStore(shared_store) if shared_store is not None else None
        store = Store(cache_dir())
        with read_lock(store.root, reporter):
            worker = _Worker.of(begin, shared, store, reporter)
            job: ClusterTask[Any] = unpack(task, shared, store)
            return Outcome(job.packed(_done(job, worker, shared, store, reporter))).dumped()
    except (PerfError, *REFUSED) as error:
        known = error if isinstance(error, PerfError) else short_of_memory(error)
        if known is None:
            raise
        return Outcome(error=known).dumped()


def _done(
    task: ClusterTask[Any], worker: Any, shared: SharedStore | None, store: Store, reporter: Reporter
) -> Any:
    """The task's result, in the shared store too. Where another machine was faster, its result is the one."""
    if shared is None:
        return task.run(worker)
    task.fetch(shared, store)
    digest = task.checkpoints
    with nullcontext() if digest is None else _checkpoints(task, digest, shared, store, reporter):
        result = task.run(worker)
    if not task.give(shared, store) and task.fetch(shared, store):
        result = task.run(worker)
    if digest is not None:
        shared.put_checkpoint(digest, b"")
    return result


@contextmanager
def _checkpoints(
    task: ClusterTask[Any], digest: str, shared: SharedStore, store: Store, reporter: Reporter
) -> Iterator[None]:
    """Take the shared checkpoint, if that is further than this machine's, and share the new ones
    meanwhile; of such as are too large to share it is said once."""
    path = store.workspace(digest) / CHECKPOINT
    theirs = shared.checkpoint(digest)
    if theirs is not None and task.steps(theirs) > task.steps(path):
        replace_bytes(path, theirs)
    done = threading.Event()

    def too_large(there: int) -> None:
        reporter.note(
            f"{task.title}: its checkpoint of {size(there)} is too large to share; another machine would "
            "begin from the start"
        )

    arguments = (path, digest, shared, done, too_large)
    thread = threading.Thread(target=_share_new, args=arguments, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _share_new(
    path: Path,
    digest: str,
    shared: SharedStore,
    done: threading.Event,
    too_large: Callable[[int], None],
) -> None:
    """Share what is written to `path`, until the build is done; this is a thread. too_large: told of bytes
    that are too many, after which nothing is shared."""
    seen, pause = _stamp(path), LOOK
    while not done.wait(pause):
        stamp = _stamp(path)
        if stamp is None or stamp == seen:
            continue
        if (there := stamp[2]) > LARGEST:
            too_large(there)
            return
        begun = time.monotonic()
        # One that could not be shared only costs time, should this machine end.
        with suppress(OSError, PerfError):
            shared.put_checkpoint(digest, path.read_bytes())
            seen = stamp
        pause = max(LOOK, _WORTH * (time.monotonic() - begun))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


class _Worker:
    """What this process has loaded, for the tasks of one order."""

    _key = ""
    _kept: Any = None

    @classmethod
    def of(cls, begin: bytes, shared: SharedStore | None, store: Store, reporter: NodeReporter) -> Any:
        """What tasks run with; made once, and anew for another order."""
        key = hashlib.sha256(begin).hexdigest()
        if cls._key != key:
            cls._kept = None  # the models of the order before go first
            cls._kept, cls._key = unpack(begin, shared, store)(reporter), key
        return cls._kept


@cache
def _reporter() -> NodeReporter:
    return NodeReporter()


@cache
def _machine() -> str:
    """This machine as the picture of progress has it: its address, and the beginning of Ray's name for it."""
    import ray

    return f"{ray.util.get_node_ip_address()} ({ray.get_runtime_context().get_node_id()[:6]})"
