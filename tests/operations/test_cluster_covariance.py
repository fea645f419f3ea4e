"""Captions that another machine counts: what was counted stays, and what cannot be is told first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from perfusion_registry.build import estimation
from perfusion_registry.cluster.address import ClusterAddress
from perfusion_registry.errors import PerfError
from perfusion_registry.operations import covariance
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.covariance import CovarianceOptions, estimate
from tests.cluster.in_process import OtherMachine, other_machine

WORDS = ("cat", "dog", "teapot", "boat", "car")


@pytest.fixture
def asking(
    place: Path, tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CovarianceOptions]:
    """Makes options for 1,100 captions, in windows of 300."""
    monkeypatch.setattr(estimation, "WINDOW", 300)
    lines = (f"a photo of a {WORDS[number % 5]}, {number % 7} {number % 11}" for number in range(1100))
    Path("captions.txt").write_text("\n".join(lines))

    def options(
        out: str, cluster: ClusterAddress | None = None, captions: str = "captions.txt"
    ) -> CovarianceOptions:
        base, compute = str(tiny_base_folder), ComputeOptions("cpu", threads=1)
        return CovarianceOptions(
            captions=(captions,), out=Path(out), base=base, compute=compute, cluster=cluster
        )

    return options


@pytest.fixture
def machine(place: Path, monkeypatch: pytest.MonkeyPatch) -> OtherMachine:
    return other_machine(place / "other", monkeypatch)


def test_sums_stay_until_the_file_is_written(
    asking: Callable[..., CovarianceOptions], machine: OtherMachine
) -> None:
    Path("gone").mkdir()
    options = asking("gone/C.safetensors", machine.address)
    machine.after = lambda: shutil.rmtree("gone", ignore_errors=True) or Path("gone").write_text("a file")
    with pytest.raises(PerfError, match="cannot write"):
        estimate(options)
    assert len(machine.did) == 4
    shutil.rmtree(machine.folder)  # with all that was shared
    estimate(asking("C.safetensors", machine.address))
    assert len(machine.did) == 4
    estimate(asking("alone.safetensors"))
    assert Path("C.safetensors").read_bytes() == Path("alone.safetensors").read_bytes()
    assert not list(Path("store/work").iterdir())


def test_whoever_counts_the_same_waits(
    asking: Callable[..., CovarianceOptions], machine: OtherMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what the first one has written would be taken away from under the second."""
    second = Thread(target=lambda: estimate(asking("2.safetensors", machine.address)))
    written = covariance._written

    def slowly(*given):  # type: ignore[no-untyped-def]
        if Path("1.safetensors") in given:
            second.start()
            second.join(1.5)
            assert second.is_alive()
        return written(*given)

    monkeypatch.setattr(covariance, "_written", slowly)
    estimate(asking("1.safetensors", machine.address))
    second.join(60)
    assert Path("1.safetensors").read_bytes() == Path("2.safetensors").read_bytes()
    assert len(machine.did) == 4


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_a_file_that_cannot_be_written_is_told_before_anything_is_counted(
    asking: Callable[..., CovarianceOptions],
) -> None:
    with pytest.raises(PerfError, match="cannot write"):
        asking("/proc/C.safetensors")


def test_captions_that_can_be_read_once_only_are_not_sent(
    asking: Callable[..., CovarianceOptions], machine: OtherMachine
) -> None:
    os.mkfifo("pipe")
    with pytest.raises(PerfError, match="what is no file"):
        estimate(asking("C.safetensors", machine.address, "pipe"))
    assert machine.did == []


def test_of_no_captions_nothing_is_sent(
    asking: Callable[..., CovarianceOptions], machine: OtherMachine
) -> None:
    Path("empty.txt").write_text("\n")
    with pytest.raises(PerfError, match="no captions"):
        estimate(asking("C.safetensors", machine.address, "empty.txt"))
