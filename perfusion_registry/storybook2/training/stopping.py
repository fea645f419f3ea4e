"""A training that is asked to end, by SIGTERM or Ctrl-C, keeps what it has: it ends after its step.

Asked a second time, it ends at once. What waits within a step calls `check` meanwhile.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked: list[int] = []  # signals that came within `stoppable`


class StopAsked(Exception):  # noqa: N818 (nothing is wrong)
    """Raised by `check` where the training was asked to end."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the first signal only asks. Threads get no signals, so that nothing changes in one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}

    def ask(number: int, frame: FrameType | None) -> None:
        if _asked:
            signal.signal(number, before[number])
            os.kill(os.getpid(), number)
        _asked.append(number)

    ours = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]
    for number in ours:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        _asked.clear()


def asked() -> bool:
    """Whether the training was asked to end."""
    return bool(_asked)


def check() -> None:
    """Raise StopAsked where it was."""
    if _asked:
        raise StopAsked


def end_if_asked() -> None:
    """End the process where it was, with the status of its signal."""
    if _asked:
        sys.exit(128 + _asked[0])
