"""What needs no command line library: a `perf sync` that finds nothing changed."""

from __future__ import annotations

import os
from collections.abc import Sequence

_FLAGS = frozenset({"--frozen", "--offline", "--build", "--dry-run", "--quiet", "-q", "--json"})
"""The options that change nothing about a sync with nothing to do."""
_CHECKS = ("PERF_LOCKED", "PERF_REQUIRE_SIGNED")
"""The variables that ask for more than was remembered."""


def unchanged(arguments: Sequence[str]) -> str | None:
    """What `perf sync` with these arguments says, if nothing changed since the last one; else None."""
    if not _FLAGS.issuperset(arguments) or any(map(os.environ.get, _CHECKS)):
        return None
    from perfusion_registry.cache_folder import cache_dir
    from perfusion_registry.errors import PerfError
    from perfusion_registry.sync_stamp import ProjectFiles, load_stamp

    files = ProjectFiles.find(os.environ.get("PERF_PROJECT"))
    try:
        names = load_stamp(files, os.fspath(cache_dir())) if files else None
    except PerfError:  # told by the command
        return None
    if names is None:
        return None
    if "--json" in arguments:
        import json

        said = {"schema": "perf.sync/1", "fetched": [], "present": names, "to_build": [], "changes": []}
        return json.dumps(said, indent=2, ensure_ascii=False)
    return f"In sync: {'1 concept' if len(names) == 1 else f'{len(names)} concepts'}"
