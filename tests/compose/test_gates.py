"""How gates of several places become one, presets among them; no model is needed."""

from __future__ import annotations

from itertools import product

import pytest

from perfusion_registry.cli.drawing import GateOptions
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.presets import PRESETS

DEFAULT = Gate(0.65, 0.2, "local")
VALUES = [Gate(), Gate(bias=0.1), Gate(temperature=0.9), Gate(0.1, 0.9), Gate(key_lock="global")]
GATES = [*VALUES, *(Gate(g.bias, g.temperature, g.key_lock, preset="faithful") for g in VALUES)]


def by_hand(places: list[Gate]) -> tuple[float | None, float | None, str]:
    """The rule as a person would say it: the first place that says anything of a value decides it."""
    lock = next(place.key_lock for place in places if place.key_lock)
    numbers = []
    for key in ("bias", "temperature"):
        for place in places:
            said = getattr(place, key)
            if said is None and place.preset:
                preset = PRESETS[place.preset]
                said = preset.temperature if key == "temperature" else preset.bias(lock)
            if said is not None:
                numbers.append(said)
                break
    return numbers[0], numbers[1], lock


def test_the_first_place_that_says_anything_decides() -> None:
    for first, second, third in product(GATES, GATES, GATES):
        gate = first.over(second).over(third).over(DEFAULT).settled()
        expected = by_hand([first, second, third, DEFAULT])
        assert (gate.bias, gate.temperature, gate.key_lock) == expected, (first, second, third)
        assert gate.preset is None
        # Places may be put together in any grouping.
        assert first.over(second.over(third)) == first.over(second).over(third)


def test_options_of_the_command_line_are_one_place() -> None:
    options = GateOptions(["teddy=.5"], [".3"], ["global"], None, ["teddy=editable", "balanced"])
    named, every = options.read().command, options.read().command_all
    assert named == {"teddy": Gate(bias=0.5, preset="editable")}
    assert every == Gate(temperature=0.3, key_lock="global", preset="balanced")
    teddy = Gate.of(named["teddy"]).over(Gate.of(every)).over(DEFAULT).settled()
    assert (teddy.bias, teddy.temperature, teddy.key_lock) == (0.5, 0.15, "global")
    other = Gate.of(every).over(DEFAULT).settled()
    assert (other.bias, other.temperature, other.key_lock) == (0.5, 0.3, "global")
    with pytest.raises(PerfError, match="no preset") as caught:
        GateOptions(preset=["teddy=loud"]).read()
    assert caught.value.where == "--preset teddy=loud"
    assert "faithful, balanced, editable, together" in (caught.value.hint or "")
