"""Who uses the store: many processes at once, or one alone that removes things.

The kernel holds the lock, so a process that dies, however it dies, lets go of it. Nothing is ever corrupt
without it: it keeps `perf cache prune` from taking away what another process has just found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.reporter import Reporter, Silent

try:
    import fcntl
except ImportError:  # Windows has no shared locks; prune there can at worst remove what is fetched again
    fcntl = None  # type: ignore[assignment]


@contextmanager
def shared(root: Path, reporter: Reporter | None = None) -> Iterator[None]:
    """Use the store at `root` together with others; waits while one process has it alone.

    A store that cannot be written, and so cannot be pruned, is used without a lock.
    """
    try:
        _file(root).parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(_file(root), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield
        return
    try:
        _lock(descriptor, "shared", "`perf cache prune` is at work; waiting for it", reporter)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(root: Path, reporter: Reporter | None = None) -> Iterator[None]:
    """Have the store at `root` alone; waits, and says so, while other processes use it."""
    path = _file(root)
    make_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise write_error(error, path) from error
    try:
        waiting = f"another process is using the store; waiting for it to end ({path}). Ctrl-C stops waiting."
        _lock(descriptor, "alone", waiting, reporter)
        yield
    finally:
        os.close(descriptor)


def _file(root: Path) -> Path:
    return root / "locks" / "store.lock"


def _lock(descriptor: int, how: str, waiting: str, reporter: Reporter | None) -> None:
    if fcntl is None:
        return
    kind = fcntl.LOCK_SH if how == "shared" else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        (reporter or Silent()).warn(waiting)
        fcntl.flock(descriptor, kind)
    except OSError:  # a file system without locks
        return
