"""How much memory this process had at most."""

from __future__ import annotations

import resource
from pathlib import Path


def highest_mib() -> float:
    """MiB that this process had in memory at most. On Linux the kernel's own mark, since `getrusage` counts
    what the parent had when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on a Mac
