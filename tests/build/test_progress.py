"""What is said of a build while it goes on: how long it takes, and that its long parts move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfusion_registry.build import training
from perfusion_registry.reporter import Silent, Stage
from tests.build.test_training import picture, slow_build


class Counted(Silent):
    """Keeps the notes, and the steps and the total of each stage by its title."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: dict[str, tuple[list[int], int | None]] = {}

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Stage]:
        steps, _ = self.stages[title] = ([], total)

        class Counting:
            def advance(self, count: int = 1, note: str = "") -> None:
                steps.append(count)

        yield Counting()


def test_a_build_says_how_long_it_takes_and_moves(
    tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "LONG", 0.0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(2):
        picture(seed).save(photos / f"{seed}.png")
    told = Counted()
    slow_build(tiny_base_folder, photos, tmp_path / "work", reporter=told)
    (said,) = [note for note in told.notes if "takes about" in note]
    assert said.startswith("hugsy: training takes about ")
    for title, (steps, total) in told.stages.items():
        assert total is None or sum(steps) == total, title
    steps, _ = told.stages["hugsy: choosing the best step"]
    assert len(steps) > 1  # once for each step of the sampler, and not for each batch of pictures
    assert sum(told.stages["hugsy: preparing 2 images"][0]) == 4
