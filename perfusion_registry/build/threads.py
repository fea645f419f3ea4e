"""The threads that an interrupted training goes on with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from perfusion_registry.amounts import count
from perfusion_registry.build.checkpoint import progress_of
from perfusion_registry.reporter import Reporter


@contextmanager
def as_begun(checkpoint: Path | None, asked: int | None, title: str, reporter: Reporter) -> Iterator[None]:
    """Compute with as many threads as the training of a checkpoint had, since its last bits depend on them.

    asked: what somebody wants instead, and this process has: then it starts over, as what one number of
    threads began another cannot end with the bytes of either. title: what is trained, for the reporter.
    """
    progress = None if checkpoint is None else progress_of(checkpoint)
    begun = None if progress is None else progress.threads
    now = torch.get_num_threads()
    if checkpoint is None or begun is None or begun == now:
        yield
        return
    had = count(begun, "thread")
    if asked is not None:
        reporter.note(f"{title}: what was interrupted had {had}; with {now} it starts over")
        checkpoint.unlink(missing_ok=True)
        yield
        return
    reporter.note(f"{title}: goes on with {had}, as it was begun (--threads {now} starts over)")
    torch.set_num_threads(begun)
    try:
        yield
    finally:
        torch.set_num_threads(now)
