"""Loading models of diffusers and transformers: from safetensors only, quietly, with clear errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from perfusion_registry.errors import PerfError


def load_pretrained(kind: Any, folder: Path, what: str, **options: Any) -> Any:
    """`kind.from_pretrained(folder)` without network, pickles or progress bars.

    what: how an error calls the thing. options: passed on. Raises PerfError when the folder is missing or
    broken.
    """
    if not folder.is_dir():
        raise PerfError(f"{what} is missing", where=str(folder))
    try:
        with quiet():
            return kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PerfError(f"{what} cannot be loaded: {lines[0]}", where=str(folder), hint=BROKEN) from error


BROKEN = "check that the files are complete; a damaged download can be deleted and fetched again"


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, diffusers and transformers draw no bars and log errors only, even while they import."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    logs = (diffusers_log, transformers_log)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    try:
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
