"""Where perf keeps what must not be lost: the signing key and the keys it trusts."""

from __future__ import annotations

from pathlib import Path

from perfusion_registry.cache_folder import DATA_VARIABLE, chosen_folder


def data_dir() -> Path:
    """`PERF_DATA_DIR` if it is set, else the platform's place for data of programs.

    Raises PerfError for a user without a home folder.
    """
    return chosen_folder(DATA_VARIABLE, "user_data_dir")
