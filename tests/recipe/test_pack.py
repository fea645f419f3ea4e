"""Scene packs: their file, their published spelling, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import parse_pack, read_recipe_or_pack
from perfusion_registry.recipe import Pack, Recipe, dump_pack

TEXT = """\
# A pack for a party.
[scenes."by the sea"]
prompt = "a teddy* at sea"
[scenes.tea]
prompt = 'a teddy* "pouring" tea into a pot*'
gates = { teddy = { temperature = 0.2, bias = 0.5 }, pot = { bias = 1 } }
[pack]
requires = { teddy = ">=1,<2", pot = "" }
description = "Scenes \\u001b with tea"
version = "1.0"
name = "tea_party"
"""


def read(tmp_path: Path, text: str) -> Pack | Recipe:
    path = tmp_path / "tea-party.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe_or_pack(path)


def test_a_pack_has_one_spelling_and_is_read_back_from_it(tmp_path: Path) -> None:
    pack = read(tmp_path, TEXT)
    assert isinstance(pack, Pack)
    assert pack.pack.name == "tea-party"
    data = dump_pack(pack)
    assert parse_pack(data, "blob") == pack
    assert dump_pack(parse_pack(data, "blob")) == data
    assert b"# A pack" not in data
    assert b"\x1b" not in data
    moved = TEXT.replace('teddy = ">=1,<2", pot = ""', 'pot = "", teddy = "<2,>=1"')
    again = read(tmp_path, moved)
    assert isinstance(again, Pack)
    assert dump_pack(again) == data


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("teddy = { temp", "zebra = { temp", "a gate of `zebra`, which `requires` lacks"),
        ('pot = ""', 'tea-party = ""', "requires itself"),
        ('prompt = "a teddy* at sea"', 'prompt = ""', "at least 1 character"),
        ('version = "1.0"', 'version = "one"', "is not a version"),
        ('">=1,<2"', '"new"', "not a version constraint"),
        ("name = ", "supercategory = ", "unknown key"),
        ("name = ", 'license = "MIT"\nname = ', "unknown key; did you mean `licence`?"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in TEXT
    with pytest.raises(PerfError) as caught:
        read(tmp_path, TEXT.replace(before, after, 1))
    assert said in caught.value.what


@pytest.mark.parametrize("blob", [b"\xff", b"[pack", b"", b"[concept]\nname = 'x'", b"a." * 5000])
def test_a_blob_that_is_no_pack_is_refused(blob: bytes) -> None:
    with pytest.raises(PerfError):
        parse_pack(blob, "blob")
