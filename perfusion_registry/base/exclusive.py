"""One user of a denoiser at a time: attaching a composition changes its modules for as long as it lasts."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from perfusion_registry.errors import PerfError


@dataclass
class _Turn:
    """Whose turn it is. thread: the one that has it, or None."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    thread: int | None = None


# By the denoiser and not by the Base: one pipeline may be wrapped by several.
_TURNS: weakref.WeakKeyDictionary[nn.Module, _Turn] = weakref.WeakKeyDictionary()
_GUARD = threading.Lock()


@contextmanager
def exclusive(denoiser: nn.Module) -> Iterator[None]:
    """A context that one thread has at a time; others wait for their turn.

    Raises PerfError where this very thread has it already, since it would wait for itself.
    """
    with _GUARD:
        turn = _TURNS.setdefault(denoiser, _Turn())
    if turn.thread == threading.get_ident():
        raise PerfError(
            "this base is in use already, further up in the same thread",
            hint="leave the other context first, or put all concepts into one prompt",
        )
    with turn.lock:
        turn.thread = threading.get_ident()
        try:
            yield
        finally:
            turn.thread = None
