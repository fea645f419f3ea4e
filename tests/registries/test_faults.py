"""Small runs of the measurements in `benchmarks/` that concern registries."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cold_store import measure as crowd
from benchmarks.publish_race import measure as race
from benchmarks.publish_race import s3
from benchmarks.registry_faults import measure as injure

pytestmark = pytest.mark.slow


def test_no_injected_fault_makes_a_client_believe_anything_wrong(tmp_path: Path) -> None:
    found = injure(60, 7, tmp_path)
    assert found["wrong"] == []
    assert found["healed_afterwards"]
    assert found["unclear_errors"] == 0
    assert isinstance(found["most_requests_of_one_operation"], int)
    assert found["most_requests_of_one_operation"] <= 60
    assert isinstance(found["slowest_seconds"], float)
    assert found["slowest_seconds"] < 60


def test_every_race_of_publishers_comes_out_right(tmp_path: Path) -> None:
    with s3() as bucket:
        assert race(bucket, tmp_path / "s3", 3)["right"]


def test_processes_with_one_cold_store_fetch_each_blob_once(tmp_path: Path) -> None:
    found = crowd(tmp_path, 3, 5)
    assert found["right"], found
