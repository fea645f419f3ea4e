"""The seeds that a command line asks for."""

from __future__ import annotations

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.render.seeds import read_seeds


@pytest.mark.parametrize(
    ("text", "count", "seeds"),
    [
        (None, None, None),
        (None, 3, (0, 1, 2)),
        ("5", None, (5,)),
        ("5", 3, (5, 6, 7)),
        ("1,5,9", None, (1, 5, 9)),
        ("0-3", None, (0, 1, 2, 3)),
        ("7, 0-2, 1", None, (7, 0, 1, 2)),
        ("18446744073709551615", None, (2**64 - 1,)),
    ],
)
def test_seeds_are_read(text: str | None, count: int | None, seeds: tuple[int, ...] | None) -> None:
    assert read_seeds(text, count) == seeds


def test_a_usual_number_gives_way_to_what_is_said() -> None:
    said = {None: (0, 1), "5": (5, 6), "5-7": (5, 6, 7), "9,4": (9, 4)}
    assert {text: read_seeds(text, None, usual=2) for text in said} == said


def test_random_seeds_are_different_ones_each_time() -> None:
    first, second = (read_seeds("random", 50) or () for _ in range(2))
    assert len({*first, *second}) > 95
    assert all(0 <= seed < 2**32 for seed in first)
    assert len(read_seeds("random", None) or ()) == 1


@pytest.mark.parametrize(
    ("text", "count", "what"),
    [
        ("five", None, "is no seed"),
        ("1,,2", None, "is no seed"),
        ("-1", None, "is no seed"),
        ("", None, "is no seed"),
        ("5-1", None, "begins with the smaller one"),
        ("0-99999999999", None, "more than 10,000"),
        ("0-3", 2, "says by itself how many"),
        ("1,2", 2, "says by itself how many"),
    ],
)
def test_what_is_no_seed_is_told(text: str, count: int | None, what: str) -> None:
    with pytest.raises(PerfError, match=what) as caught:
        read_seeds(text, count)
    assert caught.value.hint
    assert caught.value.where == f"--seed {text}"
