"""Processes: several at once give the same results, and a killed run goes on where it was."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace

import pytest

from perfusion_registry.evaluate.preparing import ahead, prepared
from perfusion_registry.evaluate.runner import evaluate
from tests import forked
from tests.evaluate.conftest import Smoke

pytestmark = pytest.mark.slow
RUN = """
import sys
from pathlib import Path
from perfusion_registry.evaluate.preparing import Workplace
from perfusion_registry.evaluate.runner import evaluate
from perfusion_registry.evaluate.suite import read_suite
path, root, out = (Path(text) for text in sys.argv[1:4])
jobs = int(sys.argv[4])
evaluate(read_suite(path), path, Workplace(root, out, device="cpu", dtype="float32", jobs=jobs))
"""


def test_a_killed_run_goes_on_in_several_processes_to_the_same_results(smoke: Smoke, tmp_path) -> None:
    place = replace(smoke.place(), root=tmp_path / "store", out=tmp_path / "out")
    pictures = place.root / "evaluation" / "pictures"
    command = [sys.executable, "-c", RUN, str(smoke.path), str(place.root), str(place.out), "1"]
    # With as many threads as this process: the bytes of what is built depend on it.
    process = forked.Popen(command)
    until = time.monotonic() + 300
    while len(list(pictures.glob("*/*.png"))) < 3 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.read_bytes() for path in pictures.glob("*/*.png")}
    assert kept
    assert not (place.out / "results.json").exists()
    plan, _ = prepared(smoke.suite, smoke.path, place)
    left = ahead(plan, place.root)
    assert left.builds[0] == 0
    assert 0 < left.pictures[0] < left.pictures[1]

    results = evaluate(smoke.suite, smoke.path, replace(place, jobs=2))
    assert all(path.read_bytes() == data for path, data in kept.items())
    whole = evaluate(smoke.suite, smoke.path, smoke.place())
    assert [r.picture for r in results.images] == [r.picture for r in whole.images]
    for one, other in zip(results.images, whole.images, strict=True):
        assert one.metrics.keys() == other.metrics.keys()
        # Another number of threads may round by a level of colour; what is a yes or no can turn by that.
        assert all(abs(one.metrics[name] - other.metrics[name]) < 0.02 for name in ("image", "text"))
