"""A suite built, drawn and judged by machines that share nothing but the address of a store, of which one
dies meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.nodes import Nodes
from tests.cluster.test_story import PERF, told_by
from tests.evaluate.conftest import Smoke

pytestmark = pytest.mark.slow
pytest.importorskip("ray")


def measured(out: Path) -> list[Any]:
    """What a run measured of each picture."""
    rows: list[Any] = json.loads((out / "results.json").read_text())["images"]
    return rows


def test_machines_measure_what_one_does_though_one_of_them_dies(smoke: Smoke, tmp_path: Path) -> None:
    def environment(name: str) -> dict[str, str]:
        home = tmp_path / name
        home.mkdir()
        own = {"HOME": str(home), "PERF_CACHE_DIR": str(home / "cache"), "PERF_DATA_DIR": str(home / "data")}
        return {**os.environ, **own}

    ask = [*PERF, "evaluate", str(smoke.path), "--no-report", "--device", "cpu", "--dtype", "fp32"]
    alone, there = tmp_path / "alone", tmp_path / "there"
    asked = {"cwd": smoke.root, "check": True, "capture_output": True}
    subprocess.run([*ask, "--out", str(alone), "--threads", "1"], env=environment("bob"), **asked)  # type: ignore[call-overload]
    shared = tmp_path / "shared"
    with Nodes(tmp_path / "nodes") as nodes:
        command = [*ask, "--out", str(there), "--on", nodes.address, "--shared-store", str(shared)]
        told_by(
            nodes,
            command,
            lambda: len(list(shared.glob("results/*/*"))) > 3,
            cwd=smoke.root,
            env=environment("ann"),
        )
    assert measured(there) == measured(alone)
    for row in measured(alone):
        assert (there / row["picture"]).read_bytes() == (alone / row["picture"]).read_bytes()

    # What is measured is not measured again: there is no cluster any more, and a new machine.
    command[command.index(str(there))] = str(tmp_path / "again")
    subprocess.run(command, env=environment("eve"), **asked)  # type: ignore[call-overload]
    assert measured(tmp_path / "again") == measured(alone)
