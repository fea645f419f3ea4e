from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import canonical_name

ALPHABET = "abz09-_"


@given(st.text(ALPHABET, min_size=1, max_size=70))
def test_every_text_is_refused_or_folded_to_a_name_that_folds_to_itself(text: str) -> None:
    try:
        name = canonical_name(text)
    except PerfError:
        assert len(text) > 64 or not text[0].isalpha() or text[-1] in "-_"
        return
    assert canonical_name(name) == name
    assert name.isascii()
    assert "_" not in name
    assert "--" not in name
    assert name.replace("-", "") == text.replace("-", "").replace("_", "")


@pytest.mark.parametrize("text", ["blue-teapot", "blue_teapot", "blue--teapot", "blue-_teapot"])
def test_hyphen_and_underscore_are_one(text: str) -> None:
    assert canonical_name(text) == "blue-teapot"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Teddy",
        "tëddy",
        "9lives",
        "-x",
        "x-",
        "a b",
        "a/b",
        "../x",
        "a.b",
        "a*",
        "con",
        "lpt1",
        "nul",
        "x\n",
    ],
)
def test_what_is_not_a_name_is_refused(text: str) -> None:
    with pytest.raises(PerfError, match="name"):
        canonical_name(text)


def test_the_longest_name() -> None:
    assert canonical_name("a" * 64) == "a" * 64
    with pytest.raises(PerfError, match="64"):
        canonical_name("a" * 65)
