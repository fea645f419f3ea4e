"""Where perf keeps its bytes on this machine."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "PERF_CACHE_DIR"


def cache_dir() -> Path:
    """The folder of the store: `PERF_CACHE_DIR` if it is set, else the platform's place for caches."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("perfusion-registry", appauthor=False))
