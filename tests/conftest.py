"""Fixtures that every package's tests share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfusion_registry.base import Base

# No test may reach the network; the libraries read this when they are first imported.
os.environ["HF_HUB_OFFLINE"] = "1"

# The same examples every time, and no clock: a busy machine is slow, not wrong.
settings.register_profile(
    "perf",
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("perf")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests out of the user's own cache and keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERF_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("PERF_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def tiny_base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random base as a diffusers folder (see tests/tiny.py). Shared: copy it before changing it."""
    from tests.tiny import save_tiny_base

    return save_tiny_base(tmp_path_factory.mktemp("tiny-base"))


@pytest.fixture(scope="session")
def tiny_base(tiny_base_folder: Path) -> Base:
    """The tiny base loaded on the CPU in fp32. Shared: leave it as it was."""
    from perfusion_registry.base import describe_base, load_base

    description = describe_base(str(tiny_base_folder))
    return load_base(description, device="cpu", dtype="float32", compute_dtype="float32")
