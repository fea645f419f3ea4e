"""The commands that keep a project: what they write, what they say, and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import tomli

from perfusion_registry.methods.files import read_manifest, read_recipe
from tests.cli.running import Perf


def test_init_writes_files_that_are_valid_and_never_overwrites(perf: Perf, place: Path) -> None:
    said = perf("init", "party", "--name", 'tea "party"')
    assert said.code == 0
    assert "perf add" in said.out
    manifest = read_manifest(place / "party" / "perfusion.toml")
    assert manifest.project.name == 'tea "party"'
    assert manifest.project.base == "storybook"
    assert manifest.concepts == {}
    assert read_recipe(place / "party" / "recipes" / "example.toml").concept.name == "example"
    for path in (place / "party").rglob("*.toml"):
        first = path.read_text(encoding="utf-8").split("\n")[0]
        assert first.startswith("#:schema ")
        assert (path.parent / first.removeprefix("#:schema ")).is_file()
    assert (place / "party" / ".gitignore").read_text() == "renders/\nout/\n"
    before = (place / "party" / "perfusion.toml").read_bytes()
    again = perf("init", "party")
    assert again.code == 2
    assert "a project here already" in again.err.lower()
    assert (place / "party" / "perfusion.toml").read_bytes() == before


def test_init_adds_to_a_gitignore_what_it_lacks(perf: Perf, place: Path) -> None:
    (place / ".gitignore").write_text("/out\nsecret", encoding="utf-8")
    assert perf("init").code == 0
    assert (place / ".gitignore").read_text(encoding="utf-8") == "/out\nsecret\nrenders/\n"


def test_init_takes_a_base_only_if_concepts_can_be_trained_on_it(
    perf: Perf, place: Path, tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = place / "models"
    shutil.copytree(tiny_base_folder, models / "tiny")
    shutil.copytree(tiny_base_folder, models / "edm")
    scheduler = {"_class_name": "EDMEulerScheduler", "num_train_timesteps": 1000}
    (models / "edm" / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (models / "adapter").mkdir()
    (models / "adapter" / "adapter_config.json").write_text("{}")
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "hub"))
    for base, told in {
        "no base": "does not name a base",
        "models": '"./models" for a folder',
        "./nowhere": "the base's folder does not exist",
        "./models/edm": "no concept can be trained on this base",
        "./models/adapter": "this is a LoRA",
    }.items():
        refused = perf("init", "party", "--base", base)
        assert refused.code == 2
        assert told.lower() in " ".join(refused.err.lower().split()), base
        assert not (place / "party").exists()
    # A folder is named as seen from here, and written as seen from the project.
    assert perf("init", "party", "--base", "./models/tiny").code == 0
    assert read_manifest(place / "party" / "perfusion.toml").project.base == "../models/tiny"
    # Of a model that is not here nothing can be said; a folder of its name is asked about.
    said = perf("init", "remote", "--base", "owner/name@v1")
    assert "is not on this machine yet" in said.out
    (place / "owner" / "name").mkdir(parents=True)
    refused = perf("init", "again", "--base", "owner/name")
    assert refused.code == 2
    assert "write ./owner/name for the folder" in refused.err


def test_every_key_that_init_shows_in_a_comment_is_a_key(perf: Perf, place: Path) -> None:
    """The commented lines of the templates, uncommented, are valid files."""
    perf("init")
    for path, read in (
        (place / "perfusion.toml", read_manifest),
        (place / "recipes/example.toml", read_recipe),
    ):
        lines = []
        for line in path.read_text(encoding="utf-8").split("\n"):
            bare = line.removeprefix("# ")
            wanted = (
                line.startswith("# ") and (bare.startswith("[") or " = " in bare) and not bare.startswith(" ")
            )
            lines.append(bare if wanted else line)
        path.write_text("\n".join(lines), encoding="utf-8")
        assert "\n# seed" not in path.read_text(encoding="utf-8")
        read(path)


def test_add_takes_quoted_globs_and_what_a_shell_made_of_them(perf: Perf, project: Path) -> None:
    text = (project / "perfusion.toml").read_text(encoding="utf-8")
    said = perf(
        "add",
        "blue_Bear".lower(),
        "--super",
        "teddy",
        "--images",
        "photos/1.png",
        "photos/2.png",
        "--bias",
        "0.5",
    )
    assert said.code == 0, said.err
    recipe = tomli.loads((project / "recipes" / "blue-bear.toml").read_text(encoding="utf-8"))
    assert recipe["concept"]["images"] == ["../photos/1.png", "../photos/2.png"]
    assert recipe["render"] == {"bias": 0.5}
    after = (project / "perfusion.toml").read_text(encoding="utf-8")
    assert after.replace('blue-bear = { recipe = "recipes/blue-bear.toml" }\n', "") == text
    bear = tomli.loads((project / "recipes" / "bear.toml").read_text(encoding="utf-8"))
    assert bear["concept"]["images"] == ["../photos/*"]


def test_add_finds_the_pictures_beside_the_recipe_and_can_put_them_there(perf: Perf, project: Path) -> None:
    missing = perf("add", "cat", "--super", "cat")
    assert missing.code == 2
    assert "no pictures to learn from" in missing.err.lower()
    assert not (project / "recipes" / "cat.toml").exists()
    assert perf("add", "cat", "--super", "cat", "--images", "photos/*", "--copy").code == 0
    copied = sorted(path.name for path in (project / "recipes" / "cat").iterdir())
    assert copied == ["1.png", "2.png", "IMG_3.JPG"]
    recipe = read_recipe(project / "recipes" / "cat.toml")
    assert recipe.concept.images == ("cat/*.jpg", "cat/*.png")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bear", "--super", "teddy", "--images", "photos/*"], "a concept `bear` already"),
        (["Bear", "--super", "teddy", "--images", "photos/*"], "not a concept name"),
        (["con", "--super", "teddy", "--images", "photos/*"], "Windows"),
        (["new", "--super", "teddybear", "--images", "photos/*"], "is no word that this base knows"),
        (["new", "--super", "qwertz", "--images", "photos/*"], "asks your pictures"),
        (["new", "--super", "dog", "--images", "nowhere/*"], "no image matches `nowhere/*`"),
        (["new", "--super", "dog", "--images", "broken/*"], "2 of 3 pictures cannot be used"),
        (
            ["new", "--super", "dog", "--images", "photos/*", "--bias", "7"],
            "expected less than or equal to 2",
        ),
        (["new", "--super", "dog", "--images", "photos/*", "--version", "one"], "is not a version"),
    ],
)
def test_add_refuses_what_a_build_would_refuse_and_writes_nothing(
    perf: Perf, project: Path, arguments: list[str], said: str
) -> None:
    broken = project / "broken"
    broken.mkdir()
    (broken / "1.png").write_bytes((project / "photos" / "1.png").read_bytes())
    (broken / "2.png").write_bytes((project / "photos" / "1.png").read_bytes()[:-900])
    (broken / "3.png").write_bytes(b"not a picture")
    manifest = (project / "perfusion.toml").read_bytes()
    recipes = sorted(os.listdir(project / "recipes"))
    result = perf("add", *arguments)
    assert result.code == 2
    assert said.lower() in " ".join(result.err.split()).lower()
    assert (project / "perfusion.toml").read_bytes() == manifest
    assert sorted(os.listdir(project / "recipes")) == recipes


def test_pictures_of_one_name_in_two_folders_are_two(perf: Perf, project: Path) -> None:
    for folder in ("a", "b"):
        (project / folder).mkdir()
        shutil.copyfile(project / "photos" / "1.png", project / folder / "1.png")
    assert perf("add", "cat", "--super", "cat", "--images", "[ab]/*.png", "--json").json["pictures"] == 2


def test_a_manifest_of_windows_keeps_its_line_ends_and_its_mark(perf: Perf, project: Path) -> None:
    manifest = project / "perfusion.toml"
    written = b"\xef\xbb\xbf" + manifest.read_bytes().replace(b"\n", b"\r\n")
    manifest.write_bytes(written)
    assert perf("add", "cat", "--super", "cat", "--images", "photos/1.png").code == 0
    added = manifest.read_bytes()
    assert added != written
    assert added.startswith(b"\xef\xbb\xbf")
    assert added.count(b"\n") == added.count(b"\r\n")
    assert perf("remove", "cat").code == 0
    assert manifest.read_bytes() == written


def test_a_project_that_is_none_is_not_looked_for_above(perf: Perf, project: Path) -> None:
    for named, told in (("nowhere", "There is no such folder"), ("photos/1.png", "This is a file")):
        for command in (["list"], ["sync"]):
            refused = perf(*command, "--project", named)
            assert (refused.code, refused.out) == (2, "")
            assert told in refused.err
            assert named in refused.err
    assert perf("list", "--project", "photos").code == 0
    assert perf("list", "--project", "perfusion.toml").code == 0


def test_a_name_that_is_none_gets_one_that_is_like_it(perf: Perf, project: Path) -> None:
    for name, like in (("my bear", "my-bear"), ("1 Bär!", "bar"), ("bunny*", "bunny"), ("cat==1.0", "cat")):
        refused = perf("add", name, "--super", "teddy", "--images", "photos/*")
        assert refused.code == 2
        assert f"call it {like}, for instance" in refused.err
    assert "for instance" not in perf("add", "мишка", "--super", "teddy", "--images", "photos/*").err


def test_info_of_a_mistyped_name_knows_what_there_is(perf: Perf, project: Path) -> None:
    refused = perf("info", "baer")
    assert refused.code == 2
    assert "did you mean `bear`?" in refused.err


def test_remove_undoes_add_in_the_manifest_and_the_lockfile(perf: Perf, project: Path) -> None:
    before = (project / "perfusion.toml").read_bytes()
    assert perf("lock").code == 0
    locked = (project / "perfusion.lock").read_bytes()
    assert perf("add", "cat", "--super", "cat", "--images", "photos/1.png").code == 0
    assert perf("lock", "--check").code == 1
    assert perf("lock").code == 0
    assert perf("remove", "cat").code == 0
    assert (project / "perfusion.toml").read_bytes() == before
    assert (project / "perfusion.lock").read_bytes() == locked
    assert (project / "recipes" / "cat.toml").exists()
    # The recipe that stayed is offered, and taken again without another word.
    offered = perf("add", "cat", "--super", "cat", "--images", "photos/1.png")
    assert offered.code == 2
    assert "`perf add cat` takes it as it is" in offered.err
    again = perf("add", "cat")
    assert again.code == 0
    assert "recipes/cat.toml" in again.out
    assert perf("lock").out.endswith("  + cat 1.0.0 (not built yet)\n")
    assert perf("remove", "cat").code == 0
    unknown = perf("remove", "baer")
    assert unknown.code == 2
    assert "did you mean `bear`?" in unknown.err


def test_lock_is_written_once_and_check_says_what_is_stale(perf: Perf, project: Path) -> None:
    path = project / "perfusion.lock"
    assert perf("lock", "--check").code == 1
    assert perf("lock", "--dry-run").code == 0
    assert not path.exists()
    said = perf("lock").out.split("\n")
    base = next(line for line in said if line.startswith("  + base "))
    assert said[0] == "Locked 1 concept in perfusion.lock"
    assert [line.split()[:2] for line in said[1:4]] == [["+", "base"], ["+", "covariance"], ["+", "bear"]]
    assert base
    assert "not locked" not in " ".join(said)
    text, when = path.read_bytes(), path.stat().st_mtime_ns
    assert str(project).encode() not in text
    assert perf("lock").out == "perfusion.lock is up to date: 1 concept\n"
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (text, when)
    assert perf("lock", "--check").code == 0
    recipe = project / "recipes" / "bear.toml"
    text = recipe.read_text(encoding="utf-8").replace("[train]", "[train]\nsteps = 3")
    recipe.write_text(text, encoding="utf-8")
    stale = perf("lock", "--check")
    assert stale.code == 1
    assert "`bear` changed: recipe_digest, options" in stale.err
    assert perf("lock", "--json").json == {
        "schema": "perf.lock/1",
        "up_to_date": False,
        "changes": ["`bear` changed: recipe_digest, options"],
    }


def test_lock_settles_a_merge_that_reading_refuses(perf: Perf, project: Path) -> None:
    perf("lock")
    path = project / "perfusion.lock"
    text = path.read_text(encoding="utf-8")
    ours, theirs = "bias = 0.65\n", "bias = 0.5\n"
    conflict = f"<<<<<<< ours\n{ours}=======\n{theirs}>>>>>>> theirs\n"
    path.write_text(text.replace(ours, conflict), encoding="utf-8")
    refused = perf("list")
    assert refused.code == 2
    assert "lock `bear` differently" in refused.err
    assert perf("lock").code == 0
    assert path.read_text(encoding="utf-8") == text


def test_list_says_what_a_build_would_do(perf: Perf, project: Path) -> None:
    said = perf("list")
    assert said.code == 0
    assert "bear" in said.out
    assert "to build: never built" in said.out
    (row,) = perf("list", "--json").json["concepts"]
    assert row["state"] == "to build: never built"
    assert row["supercategory"] == "teddy"
    manifest = project / "perfusion.toml"
    manifest.write_text(
        manifest.read_text(encoding="utf-8").replace("C.safetensors", "gone"), encoding="utf-8"
    )
    said = perf("list")
    assert said.code == 0
    assert "unknown" in said.out
    assert "no covariance file" in said.err


def test_a_project_elsewhere_and_from_below(
    perf: Perf, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(project / "deep" / "er")
    assert perf("list", "--json").json["concepts"][0]["name"] == "bear"
    assert perf("add", "cat", "--super", "cat", "--images", "../../photos/*.png").code == 0
    assert read_recipe(project / "recipes" / "cat.toml").concept.images == ("../photos/*.png",)
    monkeypatch.chdir("/")
    assert perf("list").code == 2
    assert perf("list", "--project", str(project)).code == 0


def test_copies_are_made_of_all_pictures_or_of_none(
    perf: Perf, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = project / "DCIM"
    for number in (1, 2):
        (camera / str(number)).mkdir(parents=True)
        shutil.copyfile(project / "photos" / f"{number}.png", camera / str(number) / "IMG_1.png")
    shutil.copyfile(project / "photos" / "1.png", camera / "1" / "IMG_1.mask.png")
    add = ("add", "cat", "--super", "cat", "--copy", "--images")
    with monkeypatch.context() as patch:  # it is told before the base looks at them, which takes long
        patch.setattr("perfusion_registry.operations.add._warn_of_unlike", None)
        said = perf(*add, "DCIM/*/*.png")
    assert said.code == 2
    assert "Two pictures are called `IMG_1.png`" in said.err
    assert not (project / "recipes" / "cat").exists()

    (camera / "2" / "IMG_1.png").unlink()
    shutil.copyfile(project / "photos" / "2.png", camera / "2" / "IMG_2.png")
    broken = camera / "2" / "IMG_3.png"
    broken.write_bytes((project / "photos" / "1.png").read_bytes()[:-900])
    assert "1 of 3 pictures cannot be used" in perf(*add, "DCIM/*/*.png").err
    assert not (project / "recipes" / "cat").exists()

    broken.unlink()
    (project / "recipes" / "cat").mkdir()  # left from a time when copies were made one by one
    shutil.copyfile(camera / "1" / "IMG_1.png", project / "recipes" / "cat" / "IMG_1.png")
    done = perf(*add, "DCIM/*/*.png", "--json")
    assert done.code == 0
    assert json.loads(done.out)["pictures"] == 2
    copied = sorted(path.name for path in (project / "recipes" / "cat").iterdir())
    assert copied == ["IMG_1.mask.png", "IMG_1.png", "IMG_2.png"]


def test_a_project_behind_a_link_keeps_relative_images(perf: Perf, project: Path) -> None:
    link = project.parent / "link"
    link.symlink_to(project, target_is_directory=True)
    perf("add", "cat", "--super", "cat", "--project", str(link), "--images", "photos/*.png")
    assert read_recipe(project / "recipes" / "cat.toml").concept.images == ("../photos/*.png",)
    perf("add", "dog", "--super", "dog", "--project", str(link), "--images", f"{link}/photos/1.png")
    assert read_recipe(project / "recipes" / "dog.toml").concept.images == ("../photos/1.png",)
