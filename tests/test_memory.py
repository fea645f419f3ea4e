"""Running out of memory is an error that says what to lower, whoever's allocator refuses."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import pytest
import torch

from perfusion_registry.errors import PerfError
from perfusion_registry.memory import enough_memory

HUGE = 2**55


def gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def primitive() -> None:
    raise RuntimeError("could not create a primitive")


def chained() -> None:
    try:
        raise MemoryError
    except MemoryError as error:
        raise RuntimeError("an import failed (look up to see its traceback)") from error


def mapped() -> None:
    mmap.mmap(-1, HUGE)


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(HUGE), lambda: np.empty(HUGE), gpu, primitive, chained, mapped]
)
def test_an_allocation_that_fails_says_what_to_lower(allocate: Callable[[], object]) -> None:
    with pytest.raises(PerfError, match="not enough memory to train") as caught:  # noqa: SIM117
        with enough_memory("there is not enough memory to train", "lower batch"):
            allocate()
    assert caught.value.hint == "lower batch"


def test_other_errors_stay_what_they_are() -> None:
    others = (
        RuntimeError("shapes do not fit"),
        RuntimeError("could not create a primitive descriptor for a convolution"),
        FileNotFoundError(2, "No such file"),
        ImportError("no library"),
    )
    others[0].__cause__ = others[0]
    for error in others:
        with pytest.raises(type(error)) as caught, enough_memory("no memory", "lower batch"):
            raise error
        assert caught.value is error
