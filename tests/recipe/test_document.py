"""Mistakes in files: whole messages, and the line numbers against an independent way of finding them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import read_manifest, read_recipe
from perfusion_registry.recipe.document import line_of

RECIPE = """\
[concept]
name = "Teddy"
version = "1.x"
supercategory = "teddy"
image = [
  "teddy/*.png",
]

[train]
bais = 0.7
steps = "many"
templates = ["a photo"]
seed = 1979-05-27
flip = 1

[render]
key_lock = "lokal"
"""

RECIPE_ERROR = """\
the recipe has 10 mistakes:
  - line 1, concept.images: this key is missing
  - line 2, concept.name: `Teddy` is not a concept name: lowercase letters, digits, `-` and `_`, \
starting with a letter and ending with a letter or digit
  - line 3, concept.version: `1.x` is not a version such as `1.0.0` (PEP 440)
  - line 5, concept.image: unknown key; did you mean `images`?
  - line 10, train.bais: unknown key; did you mean `bias`?
  - line 11, train.steps: expected a valid integer, got "many"
  - line 12, train.templates.0: `a photo` needs `{}` exactly once, where the concept goes
  - line 13, train.seed: expected a valid integer, got a date or time
  - line 14, train.flip: expected a valid boolean, got 1
  - line 17, render.key_lock: expected 'local' or 'global', got "lokal"
  at FILE"""

MANIFEST = """\
[project]
name = "tea-party"

[concepts]
a_b = { recipe = "x", version = ">1" }
teddy = { recipie = "x" }
hugsy = { version = ">=1", registry = "studio" }

[scenes.q]
prompt = "x"
gates = { teddy = { bais = 1 } }
"""

MANIFEST_ERROR = """\
the manifest has 3 mistakes:
  - line 5, concepts.a_b: give either `recipe` (a file) or `version` (a constraint), not both or neither
  - line 6, concepts.teddy.recipie: unknown key; did you mean `recipe`?
  - line 11, scenes.q.gates.teddy.bais: unknown key; did you mean `bias`?
  at FILE"""


def failure(path: Path, text: str, read: Any) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PerfError) as caught:
        read(path)
    return str(caught.value).replace(str(path), "FILE")


def test_a_recipe_with_many_mistakes_tells_all_of_them(tmp_path: Path) -> None:
    assert failure(tmp_path / "r.toml", RECIPE, read_recipe) == RECIPE_ERROR


def test_a_manifest_with_many_mistakes_tells_all_of_them(tmp_path: Path) -> None:
    assert failure(tmp_path / "m.toml", MANIFEST, read_manifest) == MANIFEST_ERROR


def test_a_licence_in_another_spelling_is_known(tmp_path: Path) -> None:
    text = '[concept]\nname = "a"\nversion = "1"\nsupercategory = "cat"\nimages = ["*"]\nlicense = "MIT"\n'
    assert "did you mean `licence`?" in failure(tmp_path / "r.toml", text, read_recipe)


def test_one_mistake_is_one_line_with_its_place(tmp_path: Path) -> None:
    text = '[concept]\nname = "a"\nversion = "1"\nsupercategory = "cat"\nimages = ["*"]\n[train]\nseeds = 1\n'
    said = failure(tmp_path / "r.toml", text, read_recipe)
    assert said == "the recipe has a mistake: unknown key; did you mean `seed`?\n  at FILE:7, train.seeds"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[concept\nname = 1",
            "the recipe is not valid TOML: Expected ']' at the end of a table declaration\n"
            "    [concept\n            ^\n  at FILE:1:9",
        ),
        (
            '[concept]\nname = "a"\nname = "b"\n',
            "the recipe is not valid TOML: Cannot overwrite a value\n"
            '    name = "b"\n              ^\n  at FILE:3:11',
        ),
    ],
)
def test_bad_syntax_is_pointed_at(tmp_path: Path, text: str, said: str) -> None:
    assert failure(tmp_path / "r.toml", text, read_recipe) == said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xfe[\x00", "not UTF-8"),
        (b"a = " + b"[" * 100_000, "too deeply"),
        (b"", "missing"),
        (b"concept = 3", "concept"),
    ],
)
def test_hostile_files_are_errors(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(data)
    with pytest.raises(PerfError, match=said):
        read_recipe(path)


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(PerfError, match="there is no recipe here"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(PerfError, match="cannot be read"):
        read_recipe(tmp_path)


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    text = '\ufeff[concept]\r\nname = "a"\r\nversion = "1"\r\nsupercategory = "cat"\r\nimages = ["*"]\r\n'
    (tmp_path / "r.toml").write_bytes(text.encode())
    assert read_recipe(tmp_path / "r.toml").concept.name == "a"


VALUES = ["1", '"x"', "[\n  1,\n  2,\n]", '"""\n[a]\nb = 1\n"""', "{ z = 1 }", "[ # c\n]"]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from(VALUES), st.booleans(), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_the_line_of_a_key_is_where_it_was_written(items: list[tuple[str, bool, bool]]) -> None:
    """The reference is the writer, which counts lines as it goes."""
    lines: list[str] = []
    places: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, (value, commented, opens) in enumerate(items):
        if commented:
            lines += ["# k0 = 1", ""]
        if opens:
            table = (f"t{number}",)
            places[table] = len(lines) + 1
            lines.append(f"[{table[0]}]")
        places[(*table, f"k{number}")] = len(lines) + 1
        lines += f"k{number} = {value}".split("\n")
    text = "\n".join(lines)
    for path, place in places.items():
        assert line_of(text, path) == place
    assert line_of(text, (*table, "absent")) == (places[table] if table else None)
