"""Edits of the manifest: what must change does, and nothing else."""

from __future__ import annotations

import difflib
import re

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.editing import add_concept, new_recipe, remove_concept, set_scene

MANIFEST = """\
# a tea party
[project]
name = "tea"   # the best kind

[concepts]
# the brown one
teddy  = { recipe = "recipes/teddy.toml" }  # do not wash

# scenes, by mood
[scenes.sailing]
prompt = "A teddy* sailing"
"""

ADDED = """\
# a tea party
[project]
name = "tea"   # the best kind

[concepts]
# the brown one
teddy  = { recipe = "recipes/teddy.toml" }  # do not wash
bunny = { recipe = "recipes/bunny.toml" }

# scenes, by mood
[scenes.sailing]
prompt = "A teddy* sailing"
"""


def changed(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.split("\n"), after.split("\n")) if line[0] in "+-"]


def test_adding_is_one_new_line_after_the_last_entry() -> None:
    assert add_concept(MANIFEST, "bunny", {"recipe": "recipes/bunny.toml"}, "m") == ADDED


def test_adding_what_is_there_changes_nothing() -> None:
    assert add_concept(MANIFEST, "teddy", {"recipe": "recipes/teddy.toml"}, "m") == MANIFEST
    folded = MANIFEST.replace("teddy  =", "ted_dy =")
    assert add_concept(folded, "ted-dy", {"recipe": "recipes/teddy.toml"}, "m") == folded


def test_removing_takes_one_line_and_leaves_every_comment() -> None:
    after = remove_concept(ADDED, "bunny", "m")
    assert after == MANIFEST
    gone = changed(MANIFEST, remove_concept(MANIFEST, "teddy", "m"))
    assert gone == ['- teddy  = { recipe = "recipes/teddy.toml" }  # do not wash']
    assert remove_concept(MANIFEST, "absent", "m") == MANIFEST


OTHER_WAYS = [
    '[project]\nname = "x"\n',
    '[project]\nname = "x"',
    'concepts = { teddy = { recipe = "t" } }\n[project]\nname = "x"\n',
    '[concepts.teddy]\nrecipe = "t"\n\n[project]\nname = "x"\n',
    '[concepts]\n[concepts.teddy]\nrecipe = "t"\n[project]\nname = "x"\n',
    'concepts.teddy.recipe = "t"\n[project]\nname = "x"\n',
    '[concepts]\n\n\n[project]\nname = "x"\n',
    '[project]\nname = "x"\n[concepts]',
    '[project]\nname = """\n[concepts]\n"""\n\n[ concepts ]\n"teddy" = { recipe = "t" }\n\n# end\n',
]


@pytest.mark.parametrize("text", OTHER_WAYS)
def test_every_way_of_writing_the_table_can_be_added_to_and_removed_from(text: str) -> None:
    before = tomli.loads(text)
    added = add_concept(text, "bunny", {"recipe": "recipes/bunny.toml"}, "m")
    expected = {
        **before,
        "concepts": {**before.get("concepts", {}), "bunny": {"recipe": "recipes/bunny.toml"}},
    }
    assert tomli.loads(added) == expected
    kept = [line for line in text.split("\n") if "#" in line]
    assert all(line in added.split("\n") for line in kept)
    again = tomli.loads(remove_concept(added, "bunny", "m"))
    assert {**again, "concepts": again.get("concepts", {})} == {
        **before,
        "concepts": before.get("concepts", {}),
    }


LINES = st.lists(
    st.sampled_from(
        ["# note", "", 'a = { recipe = "x" } # c', 'b-c = { version = ">1" }', "  # in", 'd.recipe = "q"']
    ),
    max_size=6,
    unique=True,
)


@given(LINES, LINES.map(lambda lines: [line for line in lines if "=" not in line]))
def test_adding_keeps_every_line_and_removing_restores_the_text(entries: list[str], after: list[str]) -> None:
    text = "\n".join(["[concepts]", *entries, "", *after, "[project]", 'name = "x"', ""])
    added = add_concept(text, "zebra", {"recipe": "z.toml"}, "m")
    assert changed(text, added) == ['+ zebra = { recipe = "z.toml" }']
    assert remove_concept(added, "zebra", "m") == text


def test_a_manifest_that_is_not_toml_is_an_error() -> None:
    with pytest.raises(PerfError, match="not valid TOML"):
        add_concept("[concepts", "a", {"recipe": "b"}, "m")


def test_a_new_recipe_leaves_out_what_was_not_said() -> None:
    text = new_recipe(
        schema="../schemas/recipe.schema.json",
        concept={"name": "a", "images": ["x y.png", 'q"']},
        train={"steps": None},
        render={"bias": 0.5, "temperature": None},
    )
    assert text == (
        "#:schema ../schemas/recipe.schema.json\n\n"
        '[concept]\nname = "a"\nimages = ["x y.png", "q\\""]\n\n[render]\nbias = 0.5\n'
    )


SCENES = {
    "a table": '# before\n[scenes.tea]\nprompt = "a teddy*" # mine\n'
    "gates = { teddy = { bias = 0.4, residual = 0.5 } }\n# after\n",
    "tables": '[scenes.tea]\nprompt = "a teddy*" # mine\n'
    "[scenes.tea.gates.teddy]\nbias = 0.4 # low\nresidual = 0.5\n",
    "one value": 'scenes = { tea = { prompt = "a teddy*", '
    'gates = { teddy = { preset = "faithful", residual = 0.5 } } } } # mine\n',
    "no gates": '[scenes.tea]\nprompt = "a teddy*" # mine\n\n[scenes.other]\nprompt = "x"\n',
    "dotted": '[scenes]\ntea.prompt = "a teddy*" # mine\ntea.gates.teddy.bias = 0.4\n',
}
GATES = {"teddy": {"bias": 0.55, "temperature": 0.15, "key_lock": "global"}}


@pytest.mark.parametrize("written", SCENES)
def test_a_scenes_gates_are_set_however_it_is_written(written: str) -> None:
    text = SCENES[written]
    before = tomli.loads(text)["scenes"]
    edited = set_scene(text, "tea", "a teddy*", GATES, "here")
    after = tomli.loads(edited)["scenes"]
    kept = {"residual": 0.5} if "residual" in text else {}
    assert after.pop("tea") == {"prompt": "a teddy*", "gates": {"teddy": {**GATES["teddy"], **kept}}}
    assert after == {name: scene for name, scene in before.items() if name != "tea"}
    for comment in re.findall("# [a-z]+", text):
        assert comment in edited
    assert set_scene(edited, "tea", "a teddy*", GATES, "here") == edited
    renamed = tomli.loads(set_scene(text, "tea", "a cat*", {}, "here"))["scenes"]["tea"]["prompt"]
    assert renamed == "a cat*"


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x' # mine\n", *SCENES.values()])
def test_a_new_scene_comes_last_and_leaves_the_rest_alone(text: str) -> None:
    edited = set_scene(text, "tea party", "a teddy*", GATES, "here")
    data = tomli.loads(edited)
    assert data["scenes"].pop("tea party") == {"prompt": "a teddy*", "gates": GATES}
    before = tomli.loads(text)
    assert data == {**before, "scenes": before.get("scenes", {})}
    for comment in re.findall("# [a-z]+", text):
        assert comment in edited
