"""Ctrl-C and SIGTERM: while a command runs they are exceptions; before and after, the process just ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 128 + signal.SIGINT  # the exit code


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which containers and job schedulers stop a program, ends a command as Ctrl-C does."""

    exit_code = 128 + signal.SIGTERM


def leave_quietly() -> None:
    """From now on, either ends the process at once and without a word; one that is ignored stays so."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let both raise KeyboardInterrupt inside, where `leave_quietly` has been called."""
    raising = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}
    ours = [number for number in raising if signal.getsignal(number) is _leave]
    for number in ours:
        signal.signal(number, raising[number])
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, _leave)


def _leave(number: int, frame: object) -> None:
    os._exit(128 + number)


def _terminate(number: int, frame: object) -> None:
    raise Terminated
