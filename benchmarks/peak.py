"""How much memory this process had at most."""

from __future__ import annotations

import resource

from perfusion_registry.memory import most_memory


def highest_mib() -> float:
    """MiB that this process had in memory at most. On Linux the kernel's own mark, since `getrusage` counts
    what the parent had when it forked."""
    if (most := most_memory()) is not None:
        return most / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on a Mac
