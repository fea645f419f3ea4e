"""Holding a place together or alone by exclusive locks only, for systems that have no others (Windows).

A folder has `SLOTS` lock files. Who uses the place together with others takes any one of them, who wants it
alone takes all, in their order, so that two of those cannot wait for each other. As with every lock of the
kernel, a process that dies lets go.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

SLOTS = 64
"""As many processes may hold a place together; one more waits for any of them."""

_PAUSE = 0.05


@contextmanager
def one(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the place together with others; raises OSError where no lock file can be written.

    wait: called once, before waiting for somebody who has the place alone.
    """
    import filelock

    locks = [filelock.FileLock(path) for path in _files(folder)]
    random.shuffle(locks)
    told = False
    while True:
        for lock in locks:
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                continue
            try:
                yield
            finally:
                lock.release()
            return
        if not told:
            wait()
            told = True
        time.sleep(_PAUSE)


@contextmanager
def every(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold the place alone; raises OSError where no lock file can be written.

    wait: called once, before waiting for those who use the place.
    """
    import filelock

    told = False
    with ExitStack() as held:
        for path in _files(folder):
            lock = filelock.FileLock(path)
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                if not told:
                    wait()
                    told = True
                lock.acquire(poll_interval=_PAUSE)
            held.callback(lock.release)
        yield


def _files(folder: Path) -> list[Path]:
    return [folder / f"store-{number:02}.lock" for number in range(SLOTS)]
