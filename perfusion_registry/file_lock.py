"""A lock on a file, held by the kernel: a process that dies, however it dies, lets go of it.

It saves work and orders changes; nothing becomes corrupt without it. On POSIX it is flock, which some file
systems do not have (NFS without its lock service, some network and FUSE mounts): there everything goes on
without it. On Windows it is the `filelock` package's.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NOT_HERE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, 524}
"""What file systems without locks answer; 524 is Linux's ENOTSUPP, which C libraries have no name for."""
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}
"""What a lock that another has answers; some file systems say EACCES."""


@contextmanager
def file_lock(
    path: Path,
    *,
    shared: bool = False,
    timeout: float | None = None,
    poll: float = 0.05,
    wait: Callable[[], None] | None = None,
) -> Iterator[bool]:
    """Hold the lock of the file `path`, which is made; yields False where the file system has no locks.

    shared: together with others who share it (POSIX only). timeout: seconds to wait, None for as long as it
    takes, 0 to try once. poll: seconds between tries. wait: called once, before waiting. Raises TimeoutError
    when the time is over, and OSError where the file cannot be opened for writing.
    """
    begun = time.monotonic()
    with _Kernel(path, shared=shared) as lock:
        held, waiting = lock.take(), False
        while held is False:
            if timeout is not None and time.monotonic() - begun >= timeout:
                raise TimeoutError(f"{path} is locked by another process")
            if wait is not None and not waiting:
                wait()
            waiting = True
            time.sleep(poll)
            held = lock.take()
        yield held is True


class _Flock:
    """One descriptor of the file, and flock on it."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX

    def take(self) -> bool | None:
        """Whether it is ours now; None where there are no locks."""
        try:
            fcntl.flock(self._descriptor, self._kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                return False
            if error.errno in _NOT_HERE:
                return None
            raise
        return True

    def __enter__(self) -> _Flock:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)


class _FileLock:
    """The lock of the `filelock` package, which is exclusive."""

    def __init__(self, path: Path, *, shared: bool) -> None:
        import filelock

        if shared:
            raise NotImplementedError("there are no shared locks on this system")
        self._lock = filelock.FileLock(path)

    def take(self) -> bool:
        """Whether it is ours now."""
        import filelock

        try:
            self._lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        return True

    def __enter__(self) -> _FileLock:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()


_Kernel = _FileLock if fcntl is None else _Flock
