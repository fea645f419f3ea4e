"""How `format2` was made: once, when perfusion began to be built in format 2.

    python -m tests.golden.make_format2

It is kept as the record of what the goldens are, and is not run again: a golden that is made anew says
nothing about what others have on their disks.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tests.golden import reading2
from tests.golden.base import assemble_base
from tests.golden.make_format1 import CARD, ONE_IMAGE, QUICK, pictures, recipe, run
from tests.golden.place import GOLDEN, as_json
from tests.golden.reading2 import FORMAT2

TRAINED = QUICK.replace("steps = 1\n", "steps = 1\nresidual_rank = 0.05\ntrained_keys = true\n", 1)
RECIPES = {
    "bear": ("teddy", CARD + QUICK),
    "dog": ("dog", CARD + TRAINED + "\n[render]\nresidual = 0.7\n"),
    "word": ("pot", 'method = "textual-inversion"\n' + CARD + QUICK),
}
MANIFEST = """\
[project]
name = "author"
base = "../base"
covariance = "../C.safetensors"

[concepts]
{concepts}

[registries]
studio = "../registry"
"""
PACK = """\
[pack]
name = "tour"
version = "1.0.0"
licence = "CC-BY-4.0"
authors = ["A. N. Author"]

[pack.requires]
bear = ">=1,<3"
word = ">=1"

[scenes.snow]
prompt = "a bear* and a word* in the snow"
gates = { bear = { bias = 0.55 } }
"""

PROMPTS = {"two": "a bear* next to a word*", "three": "a bear*{bias=0.5} and a dog* and a word*"}


def made(place: Path) -> None:
    """Build every kind of concept, publish, and draw."""
    assemble_base(place / "base")
    shutil.copy(GOLDEN / "C.safetensors", place)
    author = place / "author"
    (author / "recipes").mkdir(parents=True)
    (place / "data").mkdir()
    pictures(author / "recipes")
    for name, (word, rest) in RECIPES.items():
        recipe(author, name, word, ONE_IMAGE, rest)
    (author / "recipes" / "tour.toml").write_text(PACK, encoding="utf-8")
    concepts = "\n".join(f'{name} = {{ recipe = "recipes/{name}.toml" }}' for name in (*RECIPES, "tour"))
    (author / "perfusion.toml").write_text(MANIFEST.format(concepts=concepts), encoding="utf-8")
    run(place, "author", "build")
    run(place, "author", "publish", "bear", "--sign")
    run(place, "author", "publish", "dog")
    run(place, "author", "publish", "word", "--sign")
    run(place, "author", "yank", "dog==1.0.0", "--reason", "the wrong dog")
    run(place, "author", "publish", "tour", "--sign")
    run(place, "author", "lock")
    for name, prompt in (
        ("two", "a bear* next to a word*"),
        ("three", "a bear*{bias=0.5} and a dog* and a word*"),
    ):
        run(place, "author", "compose", prompt, "--out", f"../{name}.json")
    run(
        place,
        "author",
        "render",
        "a bear* next to a word*",
        "--steps",
        "1",
        "--size",
        "32x32",
        "--out",
        "../two.png",
    )


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    shutil.rmtree(FORMAT2, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        made(place)
        rest = shutil.ignore_patterns("photos", "masks", ".lock", "*.lock.lock")
        for folder in ("author", "registry"):
            shutil.copytree(place / folder, FORMAT2 / folder, ignore=rest)
        for file in ("two.json", "three.json", "two.png"):
            shutil.copy(place / file, FORMAT2)
    for name, read in reading2.READERS.items():
        (FORMAT2 / name).write_text(as_json(read()), encoding="utf-8")


if __name__ == "__main__":
    main()
