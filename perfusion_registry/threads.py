"""How many threads a processor's work has, and how they wait for each other. Imports without torch."""

from __future__ import annotations

import os
import sys

SPINS = "10000"
"""How often a thread looks whether the others are done before it sleeps. OpenMP's own number of times takes
milliseconds; beside other busy processes it waits with a core that one of the others needs, and a build takes
ten times as long (`docs/log.md`). No number that is computed depends on it."""


def wait_briefly() -> None:
    """Let threads that wait sleep soon, where nobody has said how they wait, once torch is imported."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def use_threads(count: int) -> None:
    """Compute with `count` threads in this process; processes that it starts share them."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ["MKL_DYNAMIC"] = "FALSE"  # as many as asked for, if there are fewer cores too
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)
