"""What other tools have people write in prompts is said to be words here."""

from __future__ import annotations

import pytest

from perfusion_registry.compose import parse_prompt
from perfusion_registry.compose.habits import habits, untold

KNOWN = ("teddy", "tea-pot")

SAID = {
    "a teddy* {bias=.5} at night": ["{bias=.5} is read as words"],
    "a teddy * at night": ["teddy * is read as words", "teddy*"],
    "a teddy\N{FULLWIDTH ASTERISK} at night": ["teddy\N{FULLWIDTH ASTERISK} is read as words"],
    "a Teddy in a tea-pot*": ["teddy without a star is the plain word"],
    "a tea_pot": ["tea-pot without a star"],
    "a cat, [rain: 0.5]": ["[rain: 0.5] is read as it stands", "(rain:0.5) gives a weight"],
    "[a teddy*|a cat]": ["[a teddy*|a cat] is read as it stands"],
    "a (teddy* and a [red hat": ["[ before red is a character: nothing closes it"],
    "<lora:Teddy:1> a cat": ["<lora:Teddy:1> is read as words", "teddy*"],
    "<lora:foo:0.8> a cat": ["<lora:foo:0.8> is read as words: no concept is called foo", "perf import"],
    "embedding:teddy a cat": ["embedding:teddy is read as words"],
    "a teddy** at night": ["a star that follows no name is read as a character", "\\* is a plain star"],
    "a *teddy* at night": ["a star that follows no name"],
    "* at night": ["tea-pot* calls a concept"],
    "a teddy* AND a cat": ["AND is read as a word"],
    "a teddy* --ar 16:9 --v 6": ["--ar 16:9 is read as words", "--v 6 is read as words"],
    "a teddy* in rain --tile": ["--tile is read as words: options stand outside"],
    "teddy*:1.2 on the beach": ["a weight stands in parentheses, (teddy*:1.2)"],
    "a teddy* in snow::2": ["snow::2 is read as words"],
    "a __animal__ and a teddy*": ["__animal__ is read as it stands"],
    "a {red|blue} ball and a teddy*": ["{red|blue} is read as it stands", "--prompts FILE"],
}


@pytest.mark.parametrize("prompt", SAID)
def test_a_habit_is_named_with_how_it_is_written_here(prompt: str) -> None:
    told = " | ".join(habits(parse_prompt(prompt), KNOWN))
    for part in SAID[prompt]:
        assert part in told


@pytest.mark.parametrize(
    "prompt",
    [
        "a teddy* in a tea-pot*{bias=.5} at night",
        "a teddy* and another teddy",  # the plain word beside the concept is meant
        "a cat and a dog, 16:9, at 10:30 (12:00)",
        "brand, breakfast and a teddybear",
        "a cup (blue) [small], a (((teddy*)) in a (tea-pot*:1.2)",
        "a cat :( and a dog [12:00] BREAK a hat",
        "a \\* of a cat",
        "a well-known -- or so -- cat, one-to-one, (best quality, snow:1.2), a b:c of 3:16",
        "at f:2.8, iso:100, as John:3 has it, 50:50",
        "a teddy* of 5\\* and \\(more\\)",
        "a teddy*{bias=.5} {at night}",
        "",
    ],
)
def test_what_is_meant_is_left_alone(prompt: str) -> None:
    assert list(habits(parse_prompt(prompt), KNOWN)) == []


def test_each_is_told_once() -> None:
    (told,) = habits(parse_prompt("a teddy beside a cat* near a teddy"), ("teddy", "cat"))
    assert told.startswith("teddy without a star")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a teddy in a tea-pot", "a teddy* in a tea-pot*"),
        ("(a Teddy:1.2) on a teddy, in Tea_Pot", "(a Teddy*:1.2) on a teddy, in Tea_Pot*"),
        ("a cat*{bias=.5} beside [a teddy], 5\\*", "a cat*{bias=.5} beside [a teddy*], 5\\*"),
    ],
)
def test_all_missing_stars_are_one_sentence_with_the_prompt_as_it_should_be(written: str, meant: str) -> None:
    (told,) = habits(parse_prompt(written), (*KNOWN, "cat"))
    assert told.endswith(f": {meant}")
    assert list(habits(parse_prompt(meant), (*KNOWN, "cat"))) == []
    assert set(parse_prompt(meant).names) >= {"teddy"}


def test_a_star_never_goes_into_what_other_tools_call_a_file_by() -> None:
    told = list(habits(parse_prompt("<lora:teddy:1> a teddy at sea"), KNOWN))
    assert told[-1].endswith(": a teddy* at sea")
    (alone,) = habits(parse_prompt("<lora:teddy:1> at sea"), KNOWN)
    assert alone.startswith("<lora:teddy:1> is read as words")


def test_a_word_is_told_of_only_where_it_names_a_concept() -> None:
    assert list(habits(parse_prompt("a teddy * and a cat"), ())) == []


def test_an_escaped_star_is_meant() -> None:
    (told,) = habits(parse_prompt("a teddy \\* and a cat"), KNOWN)
    assert told.startswith("teddy without a star")


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a cat <lora:bunny:1> in the snow", "a cat in the snow"),
        ("embedding:easy-negative a cat", "a cat"),
        ("a cat --ar 16:9 AND a __animal__", "a cat a"),
        ("a teddy* beside a teddy and a (dragon:1.2)", "a beside a teddy and a dragon"),
        ("a cat*{bias=.5} on {at night}, {bias=.5}", "a on {at night},"),
    ],
)
def test_what_a_habit_names_is_not_told_of_as_a_word(prompt: str, left: str) -> None:
    assert " ".join(" ".join(untold(parse_prompt(prompt))).split()) == left
