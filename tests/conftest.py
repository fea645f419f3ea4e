"""Fixtures that every package's tests share."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import pytest
import typer.testing
from hypothesis import HealthCheck, settings

from perfusion_registry.threads import wait_briefly
from tests.signatures import keep_signatures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from perfusion_registry.base import Base

# No test may reach the network; the libraries read this when they are first imported.
os.environ["HF_HUB_OFFLINE"] = "1"
# One thread in each process, as `make test` has it: sums of floats depend on how many threads share them, and
# with several, tests that run side by side wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
wait_briefly()  # as `perf` does: where a test has several, one that waits for a core that others have sleeps

# A shell has what it starts in the background ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Only a machine that loses its power shows whether a file had reached its disk, and thousands of small files
# would wait for it. tests/recipe/test_writing.py holds what is asked of the disk, and in which order.
os.fsync = lambda _: None

gc.disable()  # until all is imported; see `pytest_collection_finish`

# The command line is put together once, and not for each command that a test runs in this process.
typer.testing._get_command = cache(typer.testing._get_command)

SUITE = {
    "tests/cli/test_evaluate.py",
    "tests/evaluate/test_report.py",
    "tests/evaluate/test_resuming.py",
    "tests/evaluate/test_runner.py",
}
"""The files that evaluate the suite of tests/evaluate/conftest.py."""

LONG = {
    "tests/cli/test_interface.py",
    "tests/cli/test_other_machines.py",
    "tests/cli/test_sharing.py",
    "tests/golden/test_place.py",
    "tests/methods/test_lora.py",
    "tests/operations/test_verdict.py",
    "tests/registries/hub/test_registry.py",
    "tests/render/test_cli.py",
    "tests/render/test_tuning.py",
    "tests/storybook/test_judgement.py",
}
"""Files whose tests, none of them slow, take more than ten seconds together."""

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with slow tests, then long files, where several processes share them: so these end at nearly the
    same time."""
    if not hasattr(config, "workerinput"):
        return
    for path in LONG:
        assert (config.rootpath / path).is_file(), f"LONG names {path}, which is no file"

    def place(item: pytest.Item) -> int:
        if item.get_closest_marker("slow") is not None:
            return 0
        return 1 if item.nodeid.split("::", 1)[0] in LONG else 2

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Look for circles of what tests make, and not again and again through all that was imported."""
    keep_signatures()
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Deal tests out to processes by files, which share fixtures, in the order in which they are collected.

    What evaluates the same suite stays together too: the later tests find in its store what the first has
    drawn.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.split("::", 1)[0]
            return "suite" if path in SUITE else path

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """`shared(name, make)`: the folder `name`, made by `make(folder)` in the first process that wants it."""
    own = tmp_path_factory.getbasetemp()
    place = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def get(name: str, make: Callable[[Path], object]) -> Path:
        with filelock.FileLock(place / f"{name}.lock"):
            if not (place / name).exists():
                half = place / f"{name}.half"
                shutil.rmtree(half, ignore_errors=True)
                half.mkdir()
                make(half)
                half.rename(place / name)
        return place / name

    return get


@pytest.fixture(scope="session")
def tiny_base_folder(shared: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A tiny random base as a diffusers folder (see tests/tiny.py). Shared: copy it before changing it."""

    def make(folder: Path) -> None:
        from tests.tiny import save_tiny_base

        save_tiny_base(folder)

    return shared("tiny-base", make)


@pytest.fixture(scope="session")
def loaded_tiny_base(tiny_base_folder: Path) -> Base:
    """What `tiny_base` gives, each module of tests the same."""
    from perfusion_registry.base import describe_base, load_base

    description = describe_base(str(tiny_base_folder))
    return load_base(description, device="cpu", dtype="float32", compute_dtype="float32")


@pytest.fixture(scope="module")
def tiny_base(loaded_tiny_base: Base) -> Iterator[Base]:
    """The tiny base loaded on the CPU in fp32. Shared: a module that does not leave it as it was fails here,
    where the fault is, and not the next one that draws with it."""
    from tests.tiny import state_of

    before = state_of(loaded_tiny_base)
    yield loaded_tiny_base
    after = state_of(loaded_tiny_base)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    assert not changed, f"the shared base was changed: {', '.join(changed)}"
