"""Running out of memory is an error that says what to lower, whoever's allocator refuses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from perfusion_registry.base.memory import enough_memory
from perfusion_registry.errors import PerfError

HUGE = 2**55


def gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("allocate", [lambda: torch.empty(HUGE), lambda: np.empty(HUGE), gpu])
def test_an_allocation_that_fails_says_what_to_lower(allocate: Callable[[], object]) -> None:
    with pytest.raises(PerfError, match="not enough memory to train") as caught:  # noqa: SIM117
        with enough_memory("there is not enough memory to train", "lower batch"):
            allocate()
    assert caught.value.hint == "lower batch"


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), enough_memory("no memory", "lower batch"):
        raise RuntimeError("shapes do not fit")
