"""How gates of several places become one, presets among them; no model is needed."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from perfusion_registry.cli.drawing import GateOptions
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion import METHOD
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import DrawOptions
from perfusion_registry.methods.perfusion.presets import PRESETS

DEFAULT = Gate(0.65, 0.2, "local")
VALUES = [Gate(), Gate(bias=0.1), Gate(temperature=0.9), Gate(0.1, 0.9), Gate(key_lock="global")]
RELATIVE = Gate(relative_bias=0.7)
GATES = [*VALUES, RELATIVE, *(Gate(g.bias, g.temperature, g.key_lock, preset="faithful") for g in VALUES)]


def by_hand(places: list[Gate]) -> tuple[dict[str, float], float, str]:
    """The rule as a person would say it: the first place that says anything of a value decides it. A bias is
    of either kind."""
    lock = next(place.key_lock for place in places if place.key_lock)
    own, temperatures = [], []
    for place in places:
        said = biases(place)
        if place.preset:
            preset = PRESETS[place.preset]
            said = said or {"relative_bias": preset.relative_bias(lock)}
            temperatures.append(preset.temperature if place.temperature is None else place.temperature)
        elif place.temperature is not None:
            temperatures.append(place.temperature)
        own.append(said)
    return next(filter(None, own)), temperatures[0], lock


def biases(gate: Gate) -> dict[str, float]:
    """What a gate says of its bias, of either kind."""
    return {key: value for key, value in gate.items() if key in ("bias", "relative_bias")}


def test_the_first_place_that_says_anything_decides() -> None:
    for first, second, third in product(GATES, GATES, GATES):
        gate = first.over(second).over(third).over(DEFAULT).settled()
        expected = by_hand([first, second, third, DEFAULT])
        assert (biases(gate), gate.temperature, gate.key_lock) == expected, (first, second, third)
        assert gate.preset is None
        # Places may be put together in any grouping.
        assert first.over(second.over(third)) == first.over(second).over(third)


def test_options_of_the_command_line_are_one_place() -> None:
    options = GateOptions(["teddy=.5"], [".3"], ["global"], None, ["teddy=editable", "balanced"])
    balanced = PRESETS["balanced"].global_relative_bias
    named, every = options.read().command, options.read().command_all
    assert named == {"teddy": Gate(bias=0.5, preset="editable")}
    assert every == Gate(temperature=0.3, key_lock="global", preset="balanced")
    teddy = Gate.of(named["teddy"]).over(Gate.of(every)).over(DEFAULT).settled()
    assert (teddy.bias, teddy.temperature, teddy.key_lock) == (0.5, 0.15, "global")
    other = Gate.of(every).over(DEFAULT).settled()
    assert (other.relative_bias, other.bias, other.temperature) == (balanced, None, 0.3)
    with pytest.raises(PerfError, match="no preset") as caught:
        GateOptions(preset=["teddy=loud"]).read()
    assert caught.value.where == "--preset teddy=loud"
    assert "faithful, balanced, editable, together" in (caught.value.hint or "")


def test_a_place_says_one_kind_of_bias() -> None:
    with pytest.raises(PerfError, match="bias and relative_bias both"):
        Gate.of({"bias": 0.5, "relative_bias": 0.9})
    options = GateOptions(bias=["teddy=.5"], relative_bias=["teddy=.9"]).read()
    with pytest.raises(PerfError, match="bias and relative_bias both"):
        METHOD.set_options("teddy", DRAWN, [options.command["teddy"]])
    with pytest.raises(PerfError) as caught:
        GateOptions(relative_bias=["teddy=much"]).read()
    assert caught.value.where == "--relative-bias teddy=much"


DRAWN = DrawOptions(bias=0.65, temperature=0.2, key_lock="local")


@pytest.mark.parametrize(
    ("place", "bias"),
    [
        ({"key_lock": "global"}, {"bias": 0.5}),  # the middle of the paper's 0.4 to 0.6
        ({"key_lock": "local"}, {"bias": 0.65}),
        ({"key_lock": "none"}, {"bias": 0.65}),
        ({"key_lock": "global", "bias": 0.7}, {"bias": 0.7}),
        ({"key_lock": "global", "relative_bias": 0.9}, {"relative_bias": 0.9}),
        (
            {"key_lock": "global", "preset": "editable"},
            {"relative_bias": PRESETS["editable"].relative_bias("global")},
        ),
    ],
)
def test_a_global_lock_by_itself_takes_the_papers_bias_for_it(
    place: dict[str, Any], bias: dict[str, float]
) -> None:
    options = METHOD.set_options("teddy", DRAWN, [place])
    assert options.model_dump(include={"bias", "relative_bias"}) == bias
    assert METHOD.set_options("teddy", options, []) == options


def test_a_bias_that_another_place_says_stays_under_another_lock() -> None:
    options = METHOD.set_options("teddy", DRAWN, [{"key_lock": "global"}], [{"bias": 0.61}])
    assert options.model_dump(include={"bias", "relative_bias"}) == {"bias": 0.61}
