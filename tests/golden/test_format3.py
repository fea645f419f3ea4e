"""A composition of format 3 says what its brackets and breaks say, and is written again to the byte."""

from __future__ import annotations

from pathlib import Path

from perfusion_registry.compose.composition import parse_composition, read_composition
from perfusion_registry.compose.pieces import Break, Said, Text
from tests.golden.reading2 import FORMAT2

GOLDEN = Path(__file__).parent / "format3" / "two.json"


def test_its_prompt_has_weights_and_chunks() -> None:
    composition = read_composition(GOLDEN)

    def word(piece: Said) -> str:
        if isinstance(piece, Break):
            return "BREAK"
        return piece.text if isinstance(piece, Text) else piece.name

    said = [(word(piece), weight) for piece, weight in composition.parsed.said]
    assert said == [
        ("a ", 1),
        ("bear", 1.2),
        (" :) [next] to", 1),
        ("BREAK", 1),
        ("a ", 1),
        ("word", 1 / 1.1),
        (", ", 1),
        ("snow", 1.1 * -0.5),
    ]
    assert composition.to_json() == GOLDEN.read_text(encoding="utf-8")


def test_in_format_2_the_same_letters_are_letters() -> None:
    text = GOLDEN.read_text(encoding="utf-8").replace('"schema_version": 3', '"schema_version": 2')
    before = parse_composition(text, where="here")
    assert before.parsed.spoken({"bear": "bear", "word": "word"}) == (
        "a (bear:1.2) :) \\[next\\] to BREAK\na [word], ((snow):-.5)"
    )
    assert read_composition(FORMAT2 / "two.json").schema_version == 2
