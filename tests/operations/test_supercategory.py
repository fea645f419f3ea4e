"""A supercategory that a base does not know is told with words that it does."""

from __future__ import annotations

import pytest

from perfusion_registry.base import describe_base
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.supercategory import check_supercategory


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("teddy-bear", "such as `teddy`"),
        ("teapott", "such as `teapot`"),
        # `t` is in the vocabulary, and nothing that is drawn
        ("t-shirt", "this base draws teddy, cat, dog, teapot, pot, boat, chair, table"),
        ("axolotl", "`perf suggest-super IMAGES` asks your pictures"),
    ],
)
def test_a_base_of_few_words_names_what_it_draws(word: str, told: str) -> None:
    with pytest.raises(PerfError, match="several tokens") as caught:
        check_supercategory(describe_base("storybook"), word)
    assert told in (caught.value.hint or "")
