"""Each metric asks for what it needs and for nothing else; a drawn world tells its own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from perfusion_registry.base import describe_base
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.metrics import ENTRY_POINTS, METRICS, WORLDS, world
from perfusion_registry.evaluate.scoring import SCORERS, Judged, ScoreOrder
from perfusion_registry.evaluate.worker import Worker, WorkerSetup
from perfusion_registry.worlds import Subject, World
from tests.distribution import install

WORLD = """
class Ink:
    name, cast, metrics = "Ink", ("blot",), {}
    def supercategory(self, one): return "blot"
    def identity(self, one): return one
    def images(self, one): ...
    def judge_file(self, base): ...
    def judge(self, base): ...
INK = Ink()
"""


class Unloaded(Worker):
    """A worker without any model but the drawn world's."""

    @property
    def scorer(self):
        raise AssertionError("no metric that was asked for needs CLIP")

    def base(self, reference=None):
        raise AssertionError("no metric that was asked for needs the base")


def picture(worker: Worker, one: str) -> str:
    """The first reference picture of one of the cast, as if it had been drawn; returns its key."""
    pixels = (world().images(one)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    key = "ab" * 32
    worker.cache.keep(worker.cache.picture(key), file.getvalue())
    return key


def test_a_drawn_world_is_asked_without_clip_and_without_the_base(tmp_path: Path) -> None:
    bases = {"storybook": describe_base("storybook")}
    worker = Unloaded(WorkerSetup(tmp_path, "storybook", tmp_path / "none", bases=bases))
    one = next(iter(world().cast))
    key = picture(worker, one)
    word = world().supercategory(one)
    judged = Judged(one, word, (), one)
    metrics = frozenset({"category", "look", "scene"})
    order = ScoreOrder(
        (key,), "in the snow", f"a {word} in the snow", (judged,), metrics, "storybook", "judges"
    )
    assert order.run(worker) == 1
    scores = worker.cache.scores(order.key(key))
    (told,) = (
        world()
        .judge("storybook")
        .scores(
            f"a {word} in the snow",
            [Subject(word, one)],
            world().images(one)[:1],
            metrics,
            base=worker.base,
            recall=worker.recalled,
        )
    )
    assert scores == told
    assert scores.keys() == metrics
    assert scores["look"] == 1


def test_every_metric_has_somebody_who_tells_it() -> None:
    worlds = {name for one in WORLDS for name in world(one).metrics}
    own = {name for name, metric in METRICS.items() if not metric.derived} - worlds
    assert own == SCORERS.keys()
    assert isinstance(world(), World)
    assert torch.is_tensor(world().images(next(iter(world().cast))))


def test_another_distribution_brings_a_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "perf-ink", "perf_ink", WORLD, {"ink": "perf_ink:INK"}, group=ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    assert world("ink").name == "Ink"
    with pytest.raises(PerfError, match="`water` is not installed"):
        world("water")
