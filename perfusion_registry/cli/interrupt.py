"""Ctrl-C and SIGTERM: while a command runs they are exceptions; before and after, the process just ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # the exit code


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which containers and job schedulers stop a program, ends a command as Ctrl-C does."""

    exit_code = 128 + signal.SIGTERM


def leave_quietly() -> None:
    """From now on, Ctrl-C ends the process at once and without a word: nothing needs cleaning up."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as for a job in the background
        signal.signal(signal.SIGINT, _leave)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt inside, where `leave_quietly` has been called."""
    if signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        leave_quietly()


def _leave(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)


def _terminate(number: int, frame: object) -> None:
    raise Terminated
