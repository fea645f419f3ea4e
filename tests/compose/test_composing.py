import copy
import json

import pytest
from jsonschema import Draft202012Validator

from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose, regated
from perfusion_registry.compose.composition import Composition, parse_composition, read_composition
from perfusion_registry.compose.concept import find_concepts, stored_artifacts
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import Built, RenderOptions
from perfusion_registry.methods.perfusion.presets import PRESETS
from tests.compose.samples import artifact, concept, concepts_of, on

PROMPT = "A teddy* sailing in a teapot* on the sea"


class Heard:
    """A reporter that keeps its warnings."""

    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def gates(composition):
    return {c.name: (c.render.bias, c.render.temperature, c.render.key_lock) for c in composition.concepts}


def test_a_composition_says_what_equation_4_needs(tiny_base, concepts):
    composition = compose(parse_prompt("A Teddy*{bias=.5} sailing in a teapot*"), concepts, tiny_base)
    assert composition.prompt == "A teddy* sailing in a teapot*"
    assert [(c.name, c.supercategory, c.positions) for c in composition.concepts] == [
        ("teddy", "teddy", (2,)),
        ("teapot", "teapot", (6,)),
    ]
    assert gates(composition) == {"teddy": (0.5, 0.15, "local"), "teapot": (0.65, 0.15, "local")}
    assert composition.base.digest == tiny_base.description.digest
    assert [c.sha256 for c in composition.concepts] == [concepts[n].sha256 for n in ("teddy", "teapot")]


def test_each_value_of_a_gate_comes_from_the_first_place_that_sets_it(tiny_base):
    """Braces, the command line by name, then for all, the scene, the lockfile, the card."""
    made = artifact(tiny_base, "teddy", "teddy", 1, render=RenderOptions(bias=0.1, temperature=0.1))
    places = [
        ("braces", 0.7),
        ("command", 0.6),
        ("command_all", 0.5),
        ("scene", 0.4),
        ("lockfile", 0.3),
        ("card", 0.1),
    ]
    for first in range(len(places)):
        said = dict(places[first:])

        def gate(place, said=said):
            return Gate(bias=said.get(place))

        prompt = "a teddy*{bias=.7}" if "braces" in said else "a teddy*"
        sources = SettingSources(
            command={"teddy": gate("command")},
            command_all=gate("command_all"),
            scene={"teddy": gate("scene")},
        )
        locked = {"teddy": concept(made, gate("lockfile"))}
        (composed,) = compose(parse_prompt(prompt), locked, tiny_base, sources).concepts
        assert (composed.render.bias, composed.render.temperature) == (places[first][1], 0.1)


def test_values_of_one_gate_may_come_from_different_places(tiny_base, concepts):
    sources = SettingSources(
        command_all=Gate(temperature=0.3, key_lock="global"), scene={"teddy": Gate(0.4, 0.4)}
    )
    composition = compose(parse_prompt("a teddy*{lock=local} on a teapot*"), concepts, tiny_base, sources)
    assert gates(composition) == {"teddy": (0.4, 0.3, "local"), "teapot": (0.5, 0.3, "global")}


def test_a_preset_stands_for_the_numbers_of_the_lock_that_is_settled(tiny_base, concepts):
    sources = SettingSources(
        command={"teapot": Gate(preset="together")},
        scene={"teddy": Gate(0.1, 0.1, "global"), "teapot": Gate(0.1, 0.1)},
    )
    composition = compose(
        parse_prompt("a teddy*{preset=faithful} on a teapot*{bias=.9}"), concepts, tiny_base, sources
    )
    assert gates(composition) == {"teddy": (None, 0.15, "global"), "teapot": (0.9, 0.15, "local")}
    assert composition.concept("teddy").render.relative_bias == PRESETS["faithful"].global_relative_bias
    again = regated(composition, SettingSources({"teapot": Gate(key_lock="global")}, Gate(preset="editable")))
    assert gates(again) == {"teddy": (None, 0.15, "global"), "teapot": (None, 0.15, "global")}
    editable = PRESETS["editable"].global_relative_bias
    assert [one.render.relative_bias for one in again.concepts] == [editable, editable]
    assert parse_composition(again.to_json(), where="") == again
    assert regated(composition, SettingSources()) == composition
    with pytest.raises(PerfError, match="two values of preset, faithful and editable"):
        compose(parse_prompt("a teddy*{preset=faithful} and teddy*{preset=editable}"), concepts, tiny_base)


def test_trained_keys_are_used_unless_a_lock_is_asked_for(tiny_base, concepts):
    def lock(prompt):
        return compose(parse_prompt(prompt), concepts, tiny_base).concept("cat").render.key_lock

    assert lock("a cat*") == "none"
    assert lock("a cat*{lock=local}") == "local"
    with pytest.raises(PerfError, match="no keys were trained"):
        compose(parse_prompt("a teddy*{lock=none}"), concepts, tiny_base)


def marked(error):
    """The text that the carets of an error are under."""
    _, line, carets = error.where.split("\n")
    return line[carets.index("^") : carets.rindex("^") + 1]


def test_an_unknown_concept_is_shown_with_the_nearest_names(tiny_base, concepts):
    with pytest.raises(PerfError) as caught:
        compose(parse_prompt("a teddy* in a teepot* here"), concepts, tiny_base)
    assert marked(caught.value) == "teepot*"
    assert "teapot*" in caught.value.hint


def test_one_concept_has_one_gate(tiny_base, concepts):
    same = compose(parse_prompt("a teddy*{bias=.5} on a teddy*{bias=.5,temperature=.2}"), concepts, tiny_base)
    assert gates(same) == {"teddy": (0.5, 0.2, "local")}
    assert same.concepts[0].positions == (2, 5)
    with pytest.raises(PerfError, match=r"0\.5 and 0\.6") as caught:
        compose(parse_prompt("a teddy*{bias=.5} on a teddy*{bias=.6}"), concepts, tiny_base)
    assert marked(caught.value) == "teddy*{bias=.6}"


def test_a_gate_for_a_concept_that_is_not_called_is_an_error(tiny_base, concepts):
    with pytest.raises(PerfError, match="'teapot'"):
        compose(parse_prompt("a teddy*"), concepts, tiny_base, SettingSources(command={"teapot": Gate(0.5)}))


def test_another_family_is_refused_and_named(tiny_base):
    others = concepts_of(artifact(tiny_base, "teddy", "teddy", 1, family="another", base="elsewhere/model"))
    with pytest.raises(PerfError, match="elsewhere/model") as caught:
        compose(parse_prompt("a teddy*"), others, tiny_base)
    assert "perf build teddy" in caught.value.hint


def test_another_covariance_than_its_partner_is_refused(tiny_base):
    others = concepts_of(
        artifact(tiny_base, "teddy", "teddy", 1),
        artifact(tiny_base, "teapot", "teapot", 2, built=Built(covariance="x" * 64, step=1)),
    )
    compose(parse_prompt("a teapot*"), others, tiny_base)
    with pytest.raises(PerfError, match="covariance") as caught:
        compose(parse_prompt("a teddy* in a teapot*"), others, tiny_base)
    assert marked(caught.value) == "teapot*"
    assert "perf build teddy teapot" in caught.value.hint


def test_a_prompt_of_any_length_is_composed(tiny_base, concepts):
    heard = Heard()
    long = compose(parse_prompt("in snow " * 40 + "a teddy*"), concepts, tiny_base, reporter=heard)
    assert heard.warnings == []
    assert (long.schema_version, long.concepts[0].positions) == (3, (84,))
    assert parse_composition(long.to_json(), where="here") == long


def test_of_a_prompt_of_before_lost_words_are_named_and_a_lost_concept_is_refused(tiny_base, concepts):
    heard = Heard()
    long = parse_prompt("a teddy* " + "in snow " * 40, plain=True)
    compose(long, concepts, tiny_base, reporter=heard)
    assert len(heard.warnings) == 1
    assert heard.warnings[0].endswith("in snow in snow in snow")
    with pytest.raises(PerfError, match="too long"):
        compose(parse_prompt("in snow " * 40 + "a teddy*", plain=True), concepts, tiny_base)
    assert compose(parse_prompt("a teddy* in snow"), concepts, tiny_base, reporter=Heard()).concepts


def test_a_prompt_without_concepts_composes_to_nothing(tiny_base):
    composition = compose(parse_prompt(r"2\*3 hats"), {}, tiny_base)
    assert composition.concepts == ()
    assert composition.covariance is None
    assert composition.prompt == r"2\*3 hats"


def test_the_file_is_deterministic_and_reads_back(tiny_base, concepts, tmp_path):
    composition = compose(parse_prompt(PROMPT), concepts, tiny_base)
    text = composition.to_json()
    assert compose(parse_prompt(PROMPT), concepts, tiny_base).to_json() == text
    path = tmp_path / "composition.json"
    path.write_text(text, encoding="utf-8")
    assert read_composition(path) == composition
    schema = Composition.model_json_schema()
    Draft202012Validator(schema).validate(json.loads(text))


MISTAKES = {
    "not JSON": lambda c: "{",
    "a bias that is text": lambda c: edited(c, ("concepts", 0, "bias"), "high"),
    "an unknown key": lambda c: edited(c, ("concepts", 0, "strength"), 1),
    "a digest that is none": lambda c: edited(c, ("concepts", 0, "sha256"), "../x"),
    "a prompt that calls others": lambda c: edited(c, ("prompt",), "a cat*"),
    "a prompt with a mistake": lambda c: edited(c, ("prompt",), "a teddy*{"),
    "no covariance": lambda c: edited(c, ("covariance",), None),
    "another schema": lambda c: edited(c, ("schema_version",), 2),
}


def edited(composition, place, value):
    data = copy.deepcopy(composition.model_dump(mode="json"))
    at = data
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_composition_with_a_mistake_is_refused(mistake, tiny_base, concepts):
    composition = compose(parse_prompt(PROMPT), concepts, tiny_base)
    assert parse_composition(composition.to_json(), where="here") == composition
    with pytest.raises(PerfError) as caught:
        parse_composition(MISTAKES[mistake](composition), where="scene.json")
    assert caught.value.where == "scene.json"


def test_concepts_are_found_through_the_lockfile_and_the_store(tiny_base, concepts, project):
    found = find_concepts(parse_prompt("a teddy* in a teapot*"), project.read(), project.store)
    assert {name: c.sha256 for name, c in found.items()} == {
        name: concepts[name].sha256 for name in ("teddy", "teapot")
    }
    assert found["teddy"].locked == Gate(0.6, 0.2, "local")
    composition = compose(parse_prompt("a teddy*"), found, tiny_base)
    assert gates(composition) == {"teddy": (0.6, 0.2, "local")}
    assert stored_artifacts(composition, project.store)["teddy"].card == on(concepts)["teddy"].card


def test_a_concept_that_is_not_built_says_how_to_build_it(project):
    with pytest.raises(PerfError) as caught:
        find_concepts(parse_prompt("a teddy* and a cat*"), project.read(), project.store)
    assert marked(caught.value) == "cat*"
    assert caught.value.hint == "run `perf build cat`"


def test_a_concept_whose_bytes_are_not_here_says_so(project, concepts):
    project.store.path(concepts["teddy"].sha256).unlink()
    with pytest.raises(PerfError, match="not in this machine's store") as caught:
        find_concepts(parse_prompt("a teddy*"), project.read(), project.store)
    assert "perf build teddy" in caught.value.hint


def test_a_stranger_is_compared_with_the_project(project):
    with pytest.raises(PerfError) as caught:
        find_concepts(parse_prompt("a teddi*"), project.read(), project.store)
    assert "teddy*" in caught.value.hint


def test_a_residual_has_a_strength_and_only_where_there_is_one(tiny_base, concepts):
    def strengths(prompt, **sources):
        composition = compose(parse_prompt(prompt), concepts, tiny_base, SettingSources(**sources))
        return [concept.render.residual for concept in composition.concepts]

    assert strengths("a hugsy* on a teapot*") == [1.0, None]
    assert strengths("a hugsy*{residual=.5} on a teapot*") == [0.5, None]
    assert strengths("a hugsy* on a teapot*", command_all=Gate(residual=0)) == [0, None]
    assert strengths("a hugsy*", command={"hugsy": Gate(residual=2)}, scene={"hugsy": Gate(residual=3)}) == [
        2
    ]
    assert strengths("a hugsy*", scene={"hugsy": Gate(residual=3)}) == [3]
    with pytest.raises(PerfError, match="none was learned") as caught:
        strengths("a hugsy* on a teapot*{residual=.5}")
    assert marked(caught.value) == "teapot*{residual=.5}"
    with pytest.raises(PerfError, match="residual of 'teapot'"):
        strengths("a teapot*", command={"teapot": Gate(residual=0.5)})


def test_a_composition_takes_another_strength_like_another_gate(tiny_base, concepts):
    composition = compose(parse_prompt("a hugsy* on a teapot*"), concepts, tiny_base)
    changed = regated(composition, SettingSources(command_all=Gate(residual=0.25)))
    assert [concept.render.residual for concept in changed.concepts] == [0.25, None]
    with pytest.raises(PerfError, match="residual of 'teapot'"):
        regated(composition, SettingSources(command={"teapot": Gate(residual=0.5)}))


def test_what_is_set_for_all_must_be_taken_by_one(tiny_base, concepts):
    teapot = compose(parse_prompt("a teapot*"), concepts, tiny_base)
    residual = SettingSources(command_all=Gate(residual=0.5))
    for draw in (
        lambda: compose(parse_prompt("a teapot*"), concepts, tiny_base, residual),
        lambda: regated(teapot, residual),
    ):
        with pytest.raises(PerfError, match="no concept that the prompt calls has a residual") as caught:
            draw()
        assert caught.value.where == "--residual"
    with pytest.raises(PerfError, match="has a bias"):
        compose(parse_prompt("a pot"), concepts, tiny_base, SettingSources(command_all=Gate(bias=0.5)))
    preset = SettingSources(command_all=Gate(preset="faithful"))
    compose(parse_prompt("a teapot*"), concepts, tiny_base, preset)
