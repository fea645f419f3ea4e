"""Killed anywhere, a training ends with the weights of one left alone; and it holds still when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.training import precision
from perfusion_registry.storybook2.training.loop import Schedule, load
from perfusion_registry.storybook2.training.pause import is_paused, paused
from perfusion_registry.storybook2.training.state import begin_from, load_state, save_state
from perfusion_registry.storybook2.training.work import Work
from tests import forked
from tests.storybook2.learners import LEARNERS, trained

PAGES = 16


def tensors(value: Any, path: str = "") -> dict[str, Tensor]:
    """All tensors of a nested state."""
    if isinstance(value, Tensor):
        return {path: value}
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return {}
    return {name: t for key, item in items for name, t in tensors(item, f"{path}/{key}").items()}


def assert_same(a: Any, b: Any) -> None:
    one, other = tensors(a), tensors(b)
    assert one.keys() == other.keys()
    assert len(one) > 5
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def child(code: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return forked.Popen([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, env=environment)


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_a_resumed_training_ends_as_an_unbroken_one(name: str, tmp_path: Path) -> None:
    whole, _ = trained(name, tmp_path / "whole", PAGES)
    _, first = trained(name, tmp_path / "broken", PAGES // 2)
    resumed, second = trained(name, tmp_path / "broken", PAGES)
    assert 0 < first.pages < second.pages
    assert_same(whole.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_it_trains_in_bf16_on_every_machine(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As processors that are faster in bf16 and accelerators do by themselves."""
    monkeypatch.setattr(precision, "faster_in_bf16", lambda: True)
    learner, progress = trained(name, tmp_path, PAGES // 2)
    assert progress.pages > 0
    state = tensors(learner.state_dict())
    assert all(tensor.dtype != torch.bfloat16 for tensor in state.values())
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())


def test_a_training_killed_in_the_middle_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    whole, _ = trained("denoiser", tmp_path / "whole", 40)
    code = f"""
from pathlib import Path
from tests.storybook2.learners import trained
trained("denoiser", Path({str(tmp_path / "killed")!r}), 10**9, save_every=0.0)
"""
    process = child(code)
    checkpoint = tmp_path / "killed" / "denoiser.pt"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    saved = torch.load(checkpoint, weights_only=True)
    if saved["progress"]["pages"] > 40:
        pytest.skip("the machine was too slow to kill it in time")
    resumed, progress = trained("denoiser", tmp_path / "killed", 40)
    assert progress.pages == 40
    assert_same(whole.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_asked_to_end_keeps_its_last_step(number: signal.Signals, tmp_path: Path) -> None:
    """Though no checkpoint was due for long; and what it keeps is that of an unbroken one."""
    process = child(f"""
from pathlib import Path
from tests.storybook2 import learners
step = learners.DenoiserLearner.step
def told(self, number, pages, rate):
    measured = step(self, number, pages, rate)
    print(pages + self.batch, flush=True)
    return measured
learners.DenoiserLearner.step = told
learners.trained("denoiser", Path({str(tmp_path / "asked")!r}), 10**9)
""")
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(2)]
    process.send_signal(number)
    seen += [int(line) for line in process.stdout]
    assert process.wait(60) == 128 + number
    kept = torch.load(tmp_path / "asked" / "denoiser.pt", weights_only=True)
    assert kept["progress"]["pages"] == seen[-1]
    whole, progress = trained("denoiser", tmp_path / "whole", seen[-1])
    assert progress.pages == seen[-1]
    assert_same(whole.state_dict(), kept["learner"])


WAITING = """
import threading
import time
from pathlib import Path
from perfusion_registry.storybook2.training.loop import Schedule, Watch, train
from perfusion_registry.storybook2.training.producing import Ahead
from perfusion_registry.storybook2.training.work import Work
class Learner:
    batch = 1
    def step(self, number, pages, rate):
        {step}
    def state_dict(self):
        return {{}}
threading.Timer(0.5, lambda: print("waits", flush=True)).start()
watch = Watch(pause=Path({pause!r}))
train("learner", Learner(), Path({folder!r}) / "learner.pt", pages=9, schedule=Schedule(1), watch=watch)
"""


@pytest.mark.parametrize("what", ["a pause", "pages that nobody draws", "a long step, asked twice"])
def test_a_training_that_waits_ends_when_it_is_asked_to(what: str, tmp_path: Path) -> None:
    lock, elsewhere = tmp_path / "pause.lock", tmp_path / "other.lock"
    long = "time.sleep(600)"
    step = f"Ahead(Work(Path({str(tmp_path)!r})), lambda: None).shard(7)" if "pages" in what else long
    pause = lock if "pause" in what else elsewhere
    with paused(lock):
        process = child(WAITING.format(step=step, pause=str(pause), folder=str(tmp_path)))
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGTERM)
        if "twice" not in what:
            assert process.wait(60) == 128 + signal.SIGTERM
            return
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_what_is_half_trained_goes_on_elsewhere_from_its_weights(name: str, tmp_path: Path) -> None:
    here, there = Work(tmp_path / "here"), Work(tmp_path / "there")
    learner, progress = trained(name, here.root, 8)
    save_state(here, tmp_path / "parts")
    between = Work(tmp_path / "between")  # a machine that carries it on without going on with it
    load_state(tmp_path / "parts", between)
    save_state(between, tmp_path / "parts again")
    load_state(tmp_path / "parts again", there)
    again = LEARNERS[name]()
    assert begin_from(there, name, again)
    assert not begin_from(there, name, again)
    arrived = LEARNERS[name]()
    assert load(there.checkpoint(name), arrived) == progress
    state = learner.state_dict()
    weights = state["weights"] | (state["averages"][0]["values"] if "averages" in state else {})
    for key, value in arrived.state_dict()["weights"].items():
        assert torch.equal(value, weights[key].half().to(value.dtype)), key
    for average in arrived.state_dict().get("averages", ()):
        assert average["steps"] == progress.step
        for key, value in average["values"].items():
            assert torch.equal(value, weights[key].half().float()), key
    assert trained(name, there.root, 16)[1].pages == 16


def test_a_torn_checkpoint_beside_is_no_checkpoint(tmp_path: Path) -> None:
    whole, _ = trained("clip", tmp_path / "whole", PAGES)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "clip.pt.partial").write_bytes(b"half")
    again, _ = trained("clip", tmp_path / "torn", PAGES)
    assert_same(whole.state_dict(), again.state_dict())


def test_the_rate_warms_up_stays_and_falls() -> None:
    schedule = Schedule(warmup=100, fall_from=1000, fall=400)
    assert schedule.rate(49) == pytest.approx(0.5)
    assert schedule.rate(500) == schedule.rate(1000) == 1
    assert schedule.rate(1100) == pytest.approx(0.5)
    assert schedule.rate(1400) == schedule.rate(9999) == pytest.approx(1e-3)


def test_a_pause_ends_with_its_holder_however_it_dies(tmp_path: Path) -> None:
    lock = tmp_path / "pause.lock"
    assert not is_paused(lock)
    with paused(lock), paused(lock):
        assert is_paused(lock)
    assert not is_paused(lock)
    code = f"""
import time
from pathlib import Path
from perfusion_registry.storybook2.training.pause import paused
with paused(Path({str(lock)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = child(code)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    trainer = child(f"""
from pathlib import Path
from tests.storybook2.learners import trained
print("started", flush=True)
trained("clip", Path({str(tmp_path)!r}), 4, pause=Path({str(lock)!r}))
""")
    assert trainer.stdout is not None
    assert trainer.stdout.readline() == "started\n"
    with pytest.raises(subprocess.TimeoutExpired):
        trainer.wait(1.0)
    assert is_paused(lock)
    holder.kill()
    holder.wait()
    assert trainer.wait(120) == 0
    assert (tmp_path / "clip.pt").exists()


def test_a_work_folder_is_one_trainings_at_a_time(tmp_path: Path) -> None:
    work = Work(tmp_path)
    assert not work.is_running("clip")
    with work.alone("clip"), work.alone("denoiser"):
        assert work.is_running("clip")
        with pytest.raises(PerfError, match=f"already runs, as process {os.getpid()}"), work.alone("clip"):
            pass
    assert not work.is_running("clip")
