"""A pause that ends with the process that asked for it.

Who wants the machine quiet holds a shared lock on a file, and so several may; a training tries the exclusive
lock between its steps, gives it back at once, and waits while it cannot have it. The kernel drops a lock when
its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def paused(path: Path) -> Iterator[None]:
    """Hold trainings that watch `path` while the block runs; returns at once, they stop after their step.

    Several may hold the pause at the same time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def is_paused(path: Path) -> bool:
    """Whether anybody holds the pause of `path`."""
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def wait_while_paused(path: Path, *, poll: float = 0.5, check: Callable[[], None] = lambda: None) -> float:
    """Return when nobody holds the pause of `path`; how many seconds that took. check: is called while it
    waits, and may raise."""
    start = time.monotonic()
    while is_paused(path):
        check()
        time.sleep(poll)
    return time.monotonic() - start
