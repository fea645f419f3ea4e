"""What a mistyped name is answered with."""

from __future__ import annotations

import pytest

from perfusion_registry.suggestions import closest, did_you_mean


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("tedyd", ["teapot", "teddy"], ["teddy"]),
        ("TEDDY", ["teapot", "Teddy"], ["Teddy"]),
        ("qwertz", ["teapot", "teddy"], []),
        ("teddy", [], []),
        ("", ["teddy"], []),
    ],
)
def test_only_what_is_spelt_alike_is_offered(word: str, known: list[str], meant: list[str]) -> None:
    assert closest(word, known) == meant


def test_several_are_offered_the_most_similar_first() -> None:
    known = ["teddy-red", "boat", "teddy", "teddies"]
    assert closest("teddi", known, most=3) == ["teddies", "teddy"]
    assert did_you_mean("teddi", known, "", form="{}*", most=2) == "did you mean teddies* or teddy*?"


def test_where_nothing_is_similar_the_other_hint_stands() -> None:
    assert did_you_mean("boat", ["teddy"], "its scenes are teddy") == "its scenes are teddy"
