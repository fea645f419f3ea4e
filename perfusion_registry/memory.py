"""Running out of memory, in words that say what to lower. Importing this needs no torch."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfusion_registry.errors import PerfError

_WORDS = re.compile(
    "DefaultCPUAllocator"  # torch's, for a processor
    "|out of memory"  # for GPUs, NVIDIA's and Apple's
    r"|could not create a primitive\s*$"  # oneDNN's, which says no more; its other sentences go on
    "|STATUS_ALLOC_FAILED"  # cuBLAS's and cuDNN's
    "|bad_alloc"  # C++'s
    "|Cannot allocate memory"  # of files that are mapped
    "|failed to map segment"  # of libraries that are loaded
    "|can't start new thread"  # whose stack has no room
)
"""What libraries say when the system gives them no memory, in errors that are of no kind of their own."""

REFUSED = (MemoryError, RuntimeError, OSError, ImportError)
"""The kinds of errors that they are."""


@contextmanager
def enough_memory(what: str, hint: str) -> Iterator[None]:
    """Turn an allocation that fails inside, on whatever device, into a PerfError.

    what: the sentence of the error, such as "there is not enough memory to ...". hint: what to lower.
    """
    try:
        yield
    except REFUSED as error:
        if not out_of_memory(error):
            raise
        raise PerfError(what, hint=hint) from error


def out_of_memory(error: BaseException | None) -> bool:
    """Whether an allocation failed, on whatever device, or was what an error was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if _refused(error):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False


def _refused(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    return isinstance(error, REFUSED) and _WORDS.search(str(error)) is not None


def free_memory() -> int | None:
    """Bytes that this process could still take of the machine's memory without swapping: what the system
    says is available, or less where a container or a limit of the process leaves less; None where nobody
    says."""
    found = [one for one in (_available(), _left_in_container(), _left_to_process()) if one is not None]
    return max(0, min(found)) if found else None


def forget_most_memory() -> bool:
    """Have `most_memory` begin anew; whether the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def most_memory() -> int | None:
    """Bytes that this process had in memory at most, by the kernel's own mark; None where there is none."""
    kilobytes = _field(Path("/proc/self/status"), "VmHWM:")
    return None if kilobytes is None else 1024 * kilobytes


def _available() -> int | None:
    kilobytes = _field(Path("/proc/meminfo"), "MemAvailable:")
    return None if kilobytes is None else 1024 * kilobytes


def _left_in_container() -> int | None:
    """Of Linux's control groups, in their second version, whose files a container sees as its own."""
    group = Path("/sys/fs/cgroup")
    try:
        most, now = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # there is none, or no bound
        return None
    cached = _field(group / "memory.stat", "inactive_file")  # of files, and given back when it is needed
    return most - now + (cached or 0)


def _left_to_process() -> int | None:
    """Of `ulimit -v`."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    kilobytes = _field(Path("/proc/self/status"), "VmSize:")
    return None if most == resource.RLIM_INFINITY or kilobytes is None else most - 1024 * kilobytes


def _field(file: Path, name: str) -> int | None:
    """The number behind a name in a file of lines."""
    try:
        lines = file.read_text("ascii").splitlines()
    except (OSError, ValueError):
        return None
    found = [line.split() for line in lines if line.split()[:1] == [name]]
    return int(found[0][1]) if found else None


def short_of_memory(error: BaseException) -> PerfError | None:
    """The error for a person where memory ran out in a place that has no advice of its own; None where
    the error is another."""
    if not out_of_memory(error):
        return None
    return PerfError(
        "there is not enough memory to go on",
        hint="end other programs, ask for fewer --jobs, or use a machine with more; what is done stays done",
    )
