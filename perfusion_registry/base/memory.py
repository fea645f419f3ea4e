"""Running out of memory, in words that say what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from perfusion_registry.errors import PerfError

_WORDS = ("DefaultCPUAllocator", "out of memory")
"""Of the plain RuntimeErrors that torch's allocators for processors and Apple's GPUs raise."""


@contextmanager
def enough_memory(what: str, hint: str) -> Iterator[None]:
    """Turn an allocation that fails inside, on whatever device, into a PerfError.

    what: the sentence of the error, such as "there is not enough memory to ...". hint: what to lower.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise PerfError(what, hint=hint) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on whatever device."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)
