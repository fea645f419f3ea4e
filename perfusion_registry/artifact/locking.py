"""The store's lock: read by many processes at once, written by one that removes things.

The kernel holds it, so a process that dies, however it dies, lets go of it. Nothing is ever corrupt without
it: it keeps `perf cache prune` from deleting what another process has just found. On POSIX it is one file and
flock. Windows has no shared locks that Python can take; there it is `SLOTS` lock files, of which a reader
takes any one and the writer takes all, in their order, so that two writers cannot wait for each other.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.errors import PerfError
from perfusion_registry.file_lock import file_lock
from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.reporter import Reporter, Silent

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SLOTS = 64
"""Without shared locks, as many processes may read at once; one more waits for any of them."""

_PAUSE = 0.05
_reading: Counter[tuple[Path, int, int]] = Counter()  # how often each thread uses a store


@contextmanager
def read_lock(root: Path, reporter: Reporter | None = None) -> Iterator[None]:
    """Use the store at `root` together with others; waits, with a warning, while one process has it alone.

    A store that cannot be written, and so cannot be pruned, is used without a lock; so is one on a file
    system without locks, with a warning.
    """
    reporter = reporter or Silent()

    def warn() -> None:
        reporter.warn("`perf cache prune` is at work; waiting for it")

    path = _lock_file(root)
    with ExitStack() as held:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if fcntl is None:
                held.enter_context(one_slot(path.parent, warn))
            elif not held.enter_context(file_lock(path, shared=True, wait=warn)):
                reporter.warn(_no_locks(root))
        here = _reader(root)
        _reading[here] += 1
        held.callback(_reading.subtract, {here: 1})
        yield


def _reader(root: Path) -> tuple[Path, int, int]:
    """This thread as it uses a store; a fork of its process is another."""
    return root.resolve(), os.getpid(), threading.get_ident()


@contextmanager
def write_lock(root: Path, reporter: Reporter | None = None) -> Iterator[None]:
    """Have the store at `root` alone; waits, with a warning, while other processes use it.

    On a file system without locks nobody is waited for, with a warning. Raises PerfError in a thread that
    uses the store itself.
    """
    reporter = reporter or Silent()
    path = _lock_file(root)
    if _reading[_reader(root)]:
        raise PerfError(
            "this program itself is using the store, and would wait for itself",
            where=str(root),
            hint="prune before a workspace is opened, or after it is closed",
        )

    def warn() -> None:
        reporter.warn(
            f"another process is using the store; waiting for it to end ({path}). Ctrl-C stops waiting."
        )

    make_folder(path.parent)
    with ExitStack() as held:
        try:
            if fcntl is None:
                held.enter_context(every_slot(path.parent, warn))
            elif not held.enter_context(file_lock(path, wait=warn)):
                reporter.warn(_no_locks(root))
        except OSError as error:
            raise write_error(error, path) from error
        yield


def _no_locks(root: Path) -> str:
    return (
        f"the file system of {root} has no locks: run no `perf cache prune` while another perf is at work "
        f"there. {CACHE_VARIABLE} chooses another store."
    )


@contextmanager
def one_slot(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold one of the folder's slots; raises OSError where no lock file can be written.

    wait: called once, before waiting for a writer, or for one of too many readers.
    """
    slots = _slots(folder)
    random.shuffle(slots)
    waiting = False
    with ExitStack() as held:
        while not _took_one(slots, held):
            if not waiting:
                wait()
                waiting = True
            time.sleep(_PAUSE)
        yield


def _took_one(slots: Iterable[Path], held: ExitStack) -> bool:
    """Whether one of them was free; `held` has it then."""
    for path in slots:
        with suppress(TimeoutError):
            held.enter_context(file_lock(path, timeout=0))
            return True
    return False


@contextmanager
def every_slot(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold all of the folder's slots; raises OSError where no lock file can be written.

    wait: called once, before waiting for readers or another writer.
    """
    waited: list[bool] = []

    def once() -> None:
        if not waited:
            wait()
            waited.append(True)

    with ExitStack() as held:
        for path in _slots(folder):
            held.enter_context(file_lock(path, poll=_PAUSE, wait=once))
        yield


def _lock_file(root: Path) -> Path:
    return root / "locks" / "store.lock"


def _slots(folder: Path) -> list[Path]:
    return [folder / f"store-{number:02}.lock" for number in range(SLOTS)]
