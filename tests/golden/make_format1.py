"""How `format1` was made: once, by the code of the commit that `format1/README.md` names.

    PYTHONPATH=a checkout of that commit:this checkout  python -m tests.golden.make_format1

It is kept as the record of what the goldens are, and is not run again: a golden that is made anew says
nothing about what others have on their disks.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from tests.golden import reading
from tests.golden.base import assemble_base
from tests.golden.commands import BATCH, COMPOSITIONS, JSON, PICTURES
from tests.golden.keys import CASES, keys_of
from tests.golden.place import GOLDEN, as_json, assemble, perf, portable, surroundings

CARD = """\
licence = "CC-BY-4.0"
authors = ["A. N. Author", "Zoë Ünal"]
consent = "it is my own"
description = "A {name} with one ear"
"""
CONCEPT = """\
[concept]
name = "{name}"
version = "{version}"
supercategory = "{word}"
images = [{images}]
"""
ALL_IMAGES = '"photos/*.png"'
ONE_IMAGE = '"photos/1.png"'
EVERY_OPTION = """\
masks = ["masks/*.png"]

[train]
bias = 0.7
temperature = 0.2
steps = 2
batch = 3
learning_rate_output = 0.02
learning_rate_embedding = 0.005
residual_rank = 0.1
learning_rate_residual = 0.002
flip = false
sizes = [1.0, 0.5]
company = ["a {} next to a chair", "a {} on a table"]
company_share = 0.25
mask = "files"
validate_every = 1
seed = 11
templates = ["a photo of a {}", "the {}"]
validation_prompts = ["a {} in the snow"]
validation_steps = 2
validation_guidance = 3.0
trained_keys = true

[render]
bias = 0.6
temperature = 0.2
key_lock = "global"
residual = 0.8
"""
RECIPES = {
    "bear": ("teddy", ALL_IMAGES, CARD),
    "boat": ("rowing boat", ONE_IMAGE, '\n[train]\nmask = "none"\n'),
    "cat": (
        "cat",
        ONE_IMAGE,
        CARD + '\n[train]\ntrained_keys = true\nmask = "none"\n\n[render]\nbias = 0.8\n',
    ),
    "dog": ("dog", ONE_IMAGE, CARD + "\n[train]\nresidual_rank = 0.05\n\n[render]\nresidual = 0.7\n"),
    "hat": ("hat", ALL_IMAGES, CARD + EVERY_OPTION),
    "pot": ("pot", ONE_IMAGE, '\n[render]\nkey_lock = "global"\npreset = "faithful"\n'),
}
PACK = """\
[pack]
name = "{name}"
version = "1.0.0"
licence = "CC-BY-4.0"
authors = ["A. N. Author"]
description = "Two friends on the way"

[pack.requires]
bear = ">=1,<3"
dog = ">=1"

[scenes.snow]
prompt = "a bear* and a dog* in the snow"

[scenes.snow.gates]
dog = {{ bias = 0.55, temperature = 0.2, key_lock = "global", residual = 0.5 }}

[scenes."by the sea"]
prompt = "a bear* in the sea"
gates = {{ bear = {{ preset = "editable" }} }}
"""
AUTHOR = """\
[project]
name = "author"
base = "../base"
covariance = "../C.safetensors"

[concepts]
{concepts}

[registries]
studio = "../registry"

[scenes.tea]
prompt = "a bear* next to a pot*"
gates = {{ bear = {{ bias = 0.5, temperature = 0.25 }}, pot = {{ preset = "balanced", key_lock = "local" }} }}
"""
TEAM = """\
[project]
name = "team"
base = "../base"
covariance = "../C.safetensors"

[concepts]
bear = { version = ">=1,<3", registry = "studio" }
cup = { recipe = "recipes/cup.toml" }
tour = { version = "~=1.0" }
voyage = { recipe = "recipes/voyage.toml" }

[registries]
studio = "../registry"
"""
HOME = """\
[project]
name = "home"

[concepts]
mug = { recipe = "recipes/mug.toml" }
teddy = { recipe = "recipes/teddy.toml" }
"""
QUICK = """
[train]
steps = 1
batch = 2
mask = "none"
validation_prompts = ["a photo of a {}"]
validation_steps = 1
"""


def run(place: Path, project: str, *arguments: str) -> None:
    """One command in a process of its own, which must succeed."""
    with surroundings(place, project):
        command = [sys.executable, "-c", "from perfusion_registry.cli import main; main()", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(project, *arguments, "->", done.returncode)
    assert done.returncode == 0, done.stderr


def pictures(folder: Path) -> None:
    """Three small photographs, one wider than high, and a mask of each."""
    for name in ("photos", "masks"):
        (folder / name).mkdir()
    for number, (size, colour) in enumerate(
        (((64, 64), "brown"), ((80, 64), "green"), ((64, 64), "blue")), 1
    ):
        box = (10 + 3 * number, 12, 40 + 3 * number, 50)
        photo, mask = Image.new("RGB", size, (200, 210, 220)), Image.new("L", size, 0)
        ImageDraw.Draw(photo).ellipse(box, fill=colour, outline="black")
        ImageDraw.Draw(mask).ellipse(box, fill=255)
        photo.save(folder / "photos" / f"{number}.png")
        mask.save(folder / "masks" / f"{number}.png")


def recipe(project: Path, name: str, word: str, images: str, rest: str, version: str = "1.0.0") -> None:
    text = CONCEPT.format(name=name, version=version, word=word, images=images)
    (project / "recipes" / f"{name}.toml").write_text(text + rest.replace("{name}", name), encoding="utf-8")


def projects(place: Path) -> None:
    for name in ("author", "team", "home", "data"):
        (place / name).mkdir()
    for name in ("author", "team", "home"):
        (place / name / "recipes").mkdir()
        pictures(place / name / "recipes")
    author, team, home = (place / name for name in ("author", "team", "home"))
    for name, (word, images, rest) in RECIPES.items():
        recipe(author, name, word, images, rest)
    (author / "recipes" / "tour.toml").write_text(PACK.format(name="tour"), encoding="utf-8")
    entries = "\n".join(f'{name} = {{ recipe = "recipes/{name}.toml" }}' for name in (*RECIPES, "tour"))
    (author / "perfusion.toml").write_text(AUTHOR.format(concepts=entries), encoding="utf-8")
    recipe(team, "cup", "pot", ONE_IMAGE, QUICK)
    (team / "recipes" / "voyage.toml").write_text(PACK.format(name="voyage"), encoding="utf-8")
    (team / "perfusion.toml").write_text(TEAM, encoding="utf-8")
    recipe(home, "teddy", "teddy", ALL_IMAGES, QUICK)
    recipe(home, "mug", "mug", ONE_IMAGE, "")
    (home / "perfusion.toml").write_text(HOME, encoding="utf-8")


def made(place: Path) -> None:
    """Everything that people did until now."""
    projects(place)
    assemble_base(place / "base")
    words = ("a red teddy", "a blue pot in the garden", "a cat and a dog", "a boat in the sea", "a hat")
    (place / "captions.txt").write_text("".join(f"{line} {n}\n" for n in range(40) for line in words))
    run(place, "author", "covariance", "../captions.txt", "--base", "../base", "--out", "../C.safetensors")
    bear = place / "author" / "recipes" / "bear.toml"
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        bear.write_text(re.sub('version = ".*"', f'version = "{version}"', bear.read_text()))
        run(place, "author", "build", "bear")
        run(place, "author", "publish", "bear", "--sign")
    run(place, "author", "build")
    run(place, "author", "yank", "bear==1.0.0", "--reason", "the wrong bear")
    run(place, "author", "yank", "bear==1.1.0", "--reason", "a wrong ear")
    run(place, "author", "unyank", "bear==1.0.0")
    run(place, "author", "publish", "dog")
    run(place, "author", "publish", "tour", "--sign")
    run(place, "author", "lock")
    run(place, "team", "lock")
    run(place, "team", "build")
    run(place, "home", "build", "teddy")
    run(place, "home", "lock")
    shutil.rmtree(place / "data")
    run(place, "team", "key", "trust", "teddy", "ab" * 32, "--registry", "https://studio.example/concepts")


def kept(place: Path) -> None:
    """Copy what belongs to the formats into `format1`."""
    for name in ("author", "team", "home", "registry", "store", "data", "photos", "masks"):
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
    rest = shutil.ignore_patterns("photos", "masks", ".lock", "*.lock.lock", "renders")
    for name in ("author", "team", "home", "registry"):
        shutil.copytree(place / name, GOLDEN / name, ignore=rest)
    for name in ("photos", "masks"):
        shutil.copytree(place / "author" / "recipes" / name, GOLDEN / name)
    for name in ("artifacts", "builds"):
        shutil.copytree(place / "store" / name, GOLDEN / "store" / name)
    (GOLDEN / "data").mkdir()
    shutil.copy(place / "data" / "known_keys.toml", GOLDEN / "data")
    shutil.copy(place / "C.safetensors", GOLDEN)


def asked(place: Path) -> None:
    """What the place says, put together as the tests put it together."""
    for name in ("compositions", "pictures", "said"):
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
        (GOLDEN / name).mkdir()
    for name, (project, *arguments) in JSON.items():
        told = perf(place, project, *arguments, "--json")
        print(name, told.code, told.err[:300])
        (GOLDEN / "said" / f"{name}.json").write_text(
            as_json({"code": told.code, "out": reading.parsed(portable(told.out, place))}), encoding="utf-8"
        )
        if name == "vendor":
            (GOLDEN / "vendored.json").write_text(as_json(reading.tree(place / "team" / "vendor")))
    for name, (project, *arguments) in COMPOSITIONS.items():
        told = perf(place, project, "compose", *arguments, "--json")
        assert told.code == 0, told.err
        (GOLDEN / "compositions" / f"{name}.json").write_text(told.out, encoding="utf-8")
    for name, (project, *arguments) in PICTURES.items():
        told = perf(place, project, "render", *arguments, "--out", str(GOLDEN / "pictures" / f"{name}.png"))
        assert told.code == 0, told.err
    project, *arguments = BATCH
    batch, sheet = GOLDEN / "pictures" / "batch", place / "sheet.png"
    told = perf(place, project, "render", *arguments, "--out", str(batch), "--sheet", str(sheet))
    assert told.code == 0, told.err
    # A sheet has half a megabyte, of which its mark alone is perf's.
    (GOLDEN / "sheet.txt").write_text(f"{reading.sheet_mark(sheet)}\n")


def told() -> None:
    """What the files say, field by field."""
    artifacts = sorted((GOLDEN / "store" / "artifacts").rglob("*.safetensors"))
    (GOLDEN / "artifacts.json").write_text(as_json({path.stem: reading.artifact(path) for path in artifacts}))
    files = {
        "manifests.json": reading.manifests,
        "recipes.json": reading.recipes,
        "lockfiles.json": reading.lockfiles,
        "records.json": reading.records,
        "index.json": reading.index,
        "covariance.json": reading.covariance,
    }
    for name, read in files.items():
        (GOLDEN / name).write_text(as_json(read()), encoding="utf-8")
    (GOLDEN / "keys.json").write_text(as_json({name: keys_of(case) for name, case in CASES.items()}))


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        made(Path(name))
        kept(Path(name))
    with tempfile.TemporaryDirectory() as name:
        asked(assemble(Path(name).resolve()))
    told()
    files = [path for path in GOLDEN.rglob("*") if path.is_file()]
    print(
        len(files),
        "files",
        sum(path.stat().st_size for path in files),
        "bytes",
        hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()[:12],
    )


if __name__ == "__main__":
    main()
