"""Who uses the store: many processes at once, or one alone that removes things.

The kernel holds the lock, so a process that dies, however it dies, lets go of it. Nothing is ever corrupt
without it: it keeps `perf cache prune` from taking away what another process has just found. Windows, which
has no shared locks that Python could take, makes do with `slots`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from perfusion_registry.artifact import slots
from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.reporter import Reporter, Silent

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def shared(root: Path, reporter: Reporter | None = None) -> Iterator[None]:
    """Use the store at `root` together with others; waits while one process has it alone.

    A store that cannot be written, and so cannot be pruned, is used without a lock.
    """
    waiting = "`perf cache prune` is at work; waiting for it"
    with suppress(OSError):
        _file(root).parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        with _together(root, lambda: (reporter or Silent()).warn(waiting)):
            yield
        return
    try:
        descriptor = os.open(_file(root), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield
        return
    try:
        _lock(descriptor, fcntl.LOCK_SH, waiting, reporter)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def alone(root: Path, reporter: Reporter | None = None) -> Iterator[None]:
    """Have the store at `root` alone; waits, and says so, while other processes use it."""
    path = _file(root)
    waiting = f"another process is using the store; waiting for it to end ({path}). Ctrl-C stops waiting."
    make_folder(path.parent)
    if fcntl is None:
        with slots.every(path.parent, lambda: (reporter or Silent()).warn(waiting)):
            yield
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise write_error(error, path) from error
    try:
        _lock(descriptor, fcntl.LOCK_EX, waiting, reporter)
        yield
    finally:
        os.close(descriptor)


def _file(root: Path) -> Path:
    return root / "locks" / "store.lock"


@contextmanager
def _together(root: Path, wait: Callable[[], None]) -> Iterator[None]:
    """A slot of the store's; none where no lock file can be written."""
    with ExitStack() as held:
        with suppress(OSError):
            held.enter_context(slots.one(_file(root).parent, wait))
        yield


def _lock(descriptor: int, kind: int, waiting: str, reporter: Reporter | None) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        (reporter or Silent()).warn(waiting)
        fcntl.flock(descriptor, kind)
    except OSError:  # a file system without locks
        return
