"""Ctrl-C: while a command runs it is an exception; before and after, the process just ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130
"""The exit code of what was interrupted."""


def leave_quietly() -> None:
    """From now on, Ctrl-C ends the process at once and without a word: nothing needs cleaning up."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as for a job in the background
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt inside, in a process where `leave_quietly` has been called."""
    if signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        leave_quietly()


def _leave(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)
