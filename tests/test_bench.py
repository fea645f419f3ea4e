"""`make bench`: intervals against brute force, turns, and what counts as worse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest

from benchmarks.bench import __main__ as program
from benchmarks.bench import captions, drawing, training
from benchmarks.bench.report import Run, worse
from benchmarks.bench.turns import Measured, Pair, Row, interval, measure


@pytest.mark.parametrize("count", range(6, 16))
def test_an_interval_is_the_narrowest_that_holds_the_median_often_enough(count: int) -> None:
    """Of all ways in which `count` values can fall below and above their median."""
    ways = [sum(way) for way in product((0, 1), repeat=count)]  # how many are below

    def held(low: int) -> float:
        return sum(low < below < count - low for below in ways) / len(ways)

    low, high = interval(count)
    assert high == count - 1 - low
    assert held(low) >= 0.95
    assert low + 1 > (count - 1) // 2 or held(low + 1) < 0.95


@pytest.mark.parametrize("count", range(1, 6))
def test_of_few_turns_all_count(count: int) -> None:
    assert interval(count) == (0, count - 1)


KINDS = (
    "a denoising step, 1 concept ",
    "residual / the UNet",
    "textual inversion",
    "Custom Diffusion",
    "covariance",
    "`perf list`",
    "sync` of 100 ",
)
"""In the names of rows, of which the others are larger."""
ROWS = [row for part in program.PARTS for row in part.rows() if any(kind in row.name for kind in KINDS)]


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows_run(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "STEPS_AT_ONCE", 1)
    monkeypatch.setattr(drawing, "STEPS", 2)
    monkeypatch.setattr(training, "STEPS_AT_ONCE", 1)
    quick = {"steps": 1, "batch": 1, "validate_every": 1, "validation_steps": 1}
    for module in (drawing, training):
        monkeypatch.setattr(module, "QUICK", quick | {"validation_prompts": ("a photo of a {}",)})
    monkeypatch.setattr(captions, "COUNT", 40)
    with row.prepare() as works:
        for work in works:
            work()


def test_works_take_turns_and_the_first_turn_does_not_count() -> None:
    order: list[str] = []

    @contextmanager
    def prepared() -> Iterator[Pair]:
        def ours() -> float:
            order.append("ours")
            return 100.0 if len(order) == 1 else 3.0

        def beside() -> float:
            order.append("beside")
            return 2.0

        yield ours, beside
        order.append("closed")

    found = measure(Row("a", "b", prepared, aim=1.4), 3)
    assert order == ["ours", "beside", "beside", "ours", "ours", "beside", "beside", "ours", "closed"]
    assert (found.ratio, found.low, found.high, found.ours, found.beside) == (1.5, 1.5, 1.5, 3.0, 2.0)
    assert found.missed


def test_worse_is_only_what_lies_wholly_above_on_the_same_machine(tmp_path: Path) -> None:
    def one(name: str, low: float, high: float) -> Measured:
        return Measured(name, "ms", 1.0, 1.0, (low + high) / 2, low, high, 11)

    before = Run("here", (one("a / b", 1.0, 1.1), one("c / d", 1.0, 1.1)))
    before.write(tmp_path / "bench.json")
    read = Run.read(tmp_path / "bench.json")
    assert read == before
    now = Run("here", (one("a / b", 1.05, 1.3), one("c / d", 1.2, 1.3), one("new / d", 9.0, 9.0)))
    assert [(found.name, was.high) for found, was in worse(now, read)] == [("c / d", 1.1)]
    assert worse(Run("another", now.results), read) == ()
    assert Run.read(tmp_path / "none.json") is None
    assert "| c | d | 1 ms | 1 ms | **1.25** | 1.2 to 1.3, 11 turns |  |" in now.page()


def test_a_run_tells_what_became_worse_with_its_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--page", str(tmp_path / "bench.md"), "--json", str(tmp_path / "bench.json")]
    asked = ["--only", "resolving 100 ", "--turns", "2", *places]
    assert program.main(asked) == 0
    text = (tmp_path / "bench.json").read_text(encoding="utf-8")
    (row,) = json.loads(text)["results"]
    assert row["ratio"] > 1
    for end in ("low", "high"):
        text = text.replace(f'"{end}": {row[end]}', f'"{end}": 0.001')
    (tmp_path / "bench.json").write_text(text, encoding="utf-8")
    assert program.main(asked) == 1
    told = capsys.readouterr().out
    assert "worse: resolving 100 concepts of 20 versions" in told
    assert (tmp_path / "bench.json").read_text(encoding="utf-8") == text  # what it is held against stays
    assert program.main([*asked, "--accept"]) == 1
    assert program.main(["--only", "resolving 1,000 ", "--turns", "1", *places]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))["results"]
    assert [one["name"][:16] for one in rows] == ["resolving 100 co", "resolving 1,000 "]
    assert rows[0]["high"] > 0.001
    assert "resolution.py" in told
    with pytest.raises(SystemExit):
        program.main(["--only", "nothing of that name"])
