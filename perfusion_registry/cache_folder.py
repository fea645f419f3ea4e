"""Where perf keeps its bytes on this machine, and what `~` stands for."""

from __future__ import annotations

import os
from pathlib import Path

from perfusion_registry.errors import PerfError

CACHE_VARIABLE = "PERF_CACHE_DIR"
DATA_VARIABLE = "PERF_DATA_DIR"


def cache_dir() -> Path:
    """The folder of the store: `PERF_CACHE_DIR` if it is set, else the platform's place for caches.

    Raises PerfError for a user without a home folder.
    """
    return chosen_folder(CACHE_VARIABLE, "user_cache_dir")


def chosen_folder(variable: str, place: str) -> Path:
    """The folder that an environment variable names, else one of the platform's, by platformdirs' name of it.

    Raises PerfError for a user without a home folder.
    """
    chosen = os.environ.get(variable)
    if not chosen:
        import platformdirs

        try:
            chosen = str(getattr(platformdirs, place)("perfusion-registry", appauthor=False))
        except RuntimeError:  # newer releases refuse, older ones leave the `~`
            chosen = "~"
    return expand_user(chosen).absolute()


def expand_user(path: str | Path) -> Path:
    """A path whose leading `~` or `~NAME` is that user's home. Raises PerfError where there is none."""
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        name = Path(expanded).parts[0]
        if name != "~":
            what = f"there is no user `{name[1:]}`"
            raise PerfError(what, where=str(path), hint=f"write ./{name} for a folder of that name")
        raise PerfError(
            "this user has no home folder: HOME is not set, and the system knows none",
            hint=f"set HOME, or set {CACHE_VARIABLE} and {DATA_VARIABLE} to folders that can be written",
        )
    return Path(expanded)
