"""Where perf keeps what must not be lost: the signing key and the keys it trusts."""

from __future__ import annotations

import os
from pathlib import Path

DATA_VARIABLE = "PERF_DATA_DIR"


def data_dir() -> Path:
    """`PERF_DATA_DIR` if it is set, else the platform's place for data of programs."""
    chosen = os.environ.get(DATA_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("perfusion-registry", appauthor=False))
