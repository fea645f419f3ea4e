"""What a build would do, and what it would lock, as a project changes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from perfusion_registry.artifact import Store, card_key, save_artifact
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import FileDigests
from perfusion_registry.methods.perfusion.options import RenderOptions
from perfusion_registry.recipe import Lockfile, read_lockfile, write_lockfile
from perfusion_registry.recipe.lockfile_text import dump_lockfile
from perfusion_registry.resolve import ProjectFolder, differences, find_covariance, lock
from tests.artifact.samples import artifact
from tests.resolve.samples import (
    Card,
    Facts,
    File,
    planned,
    write_covariance,
    write_images,
    write_project,
    write_recipe,
)


def pretend_to_build(root: Path, store: Store, **options: Any) -> Lockfile:
    """Store an artifact for every concept of the plan and lock it, as a build does."""
    project, made = planned(root, store, **options)
    for task in made.tasks:
        about = {"render": task.render, "recipe_digest": task.digest, "name": task.name}
        sha256 = store.put(save_artifact(artifact(**about)))
        store.record(task.digest, sha256)
        store.record(task.training, sha256)
    project, made = planned(root, store, **options)
    after = lock(project, made, store)
    write_lockfile(root / "perfusion.lock", after)
    return after


def reasons(root: Path, store: Store, **options: Any) -> dict[str, str]:
    return {task.name: task.reason for task in planned(root, store, **options)[1].tasks}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project", "bear", "cat")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_new_project_builds_everything_and_then_nothing(root: Path, store: Store) -> None:
    assert reasons(root, store) == {"bear": "never built", "cat": "never built"}
    after = pretend_to_build(root, store)
    assert reasons(root, store) == {"bear": "", "cat": ""}
    assert [concept.name for concept in after.concepts] == ["bear", "cat"]
    for concept in after.concepts:
        assert concept.sha256 is not None
        assert concept.size == len(store.get(concept.sha256))
        assert concept.source == f"recipes/{concept.name}.toml"
    assert after.covariance is not None
    assert (after.covariance.shape, after.covariance.corpus) == ((2, 2), "e" * 64)


CHANGES: list[tuple[Callable[[Path], object], dict[str, Any], str]] = [
    (lambda root: write_images(root / "recipes" / "bear", "3.png"), {}, "images changed"),
    (lambda root: (root / "recipes" / "bear" / "1.png").unlink(), {}, "images changed"),
    (lambda root: write_recipe(root, "bear", tables="[train]\nsteps = 9"), {}, "options changed"),
    (lambda root: write_recipe(root, "bear", tables="[render]\nbias = 0.5"), {}, "render options changed"),
    (lambda root: write_recipe(root, "bear", extra='licence = "MIT"'), {}, "its card changed"),
    (
        lambda root: write_recipe(root, "bear").write_text(
            (root / "recipes/bear.toml").read_text().replace("1.0.0", "1.1").replace('"teddy"', '"bear"')
        ),
        {},
        "options changed, version 1.0.0 became 1.1",
    ),
    (lambda root: write_covariance(root / "C.safetensors", 3), {}, "covariance changed"),
    (lambda root: None, {"facts": Facts(digest="a" * 64)}, "base changed"),
    (lambda root: None, {"facts": Facts(card=Card(train={"steps": 9}))}, "options changed"),
    (lambda root: None, {"epoch": 2}, "the trainer or the card changed"),
    (lambda root: None, {"force": True}, "forced"),
    (lambda root: write_images(root / "recipes" / "bear", "1.mask.png"), {}, "images changed"),
    (lambda root: (root / "recipes/bear/1.png").rename(root / "recipes/bear/one.PNG"), {}, ""),
    (lambda root: (root / "perfusion.lock").unlink(), {}, ""),
    (lambda root: write_recipe(root, "bear", extra="# a comment"), {}, ""),
]


@pytest.mark.parametrize(("change", "options", "reason"), CHANGES)
def test_a_plan_says_why(
    root: Path, store: Store, change: Callable[[Path], object], options: dict[str, Any], reason: str
) -> None:
    pretend_to_build(root, store)
    change(root)
    assert reasons(root, store, **options)["bear"] == reason


@pytest.mark.parametrize(
    ("said", "usual", "files", "mask"),
    [
        ("", "attention", ["1.mask.png", "2.mask.png"], "files"),
        ("", "attention", ["1.mask.png"], "attention"),
        ("", "attention", [], "attention"),
        ("", "auto", ["1.mask.png", "2.mask.png"], "auto"),
        ('mask = "attention"', "none", ["1.mask.png", "2.mask.png"], "attention"),
        ('mask = "auto"', "attention", [], "auto"),
    ],
)
def test_masks_that_a_person_gives_win_over_where_they_usually_come_from(
    root: Path, store: Store, said: str, usual: str, files: list[str], mask: str
) -> None:
    write_recipe(root, "bear", tables=f"[train]\n{said}")
    write_images(root / "recipes" / "bear", *files)
    facts = Facts(card=Card(train={"mask": usual}))
    task = planned(root, store, facts=facts)[1].tasks[0]
    assert task.training_options.mask == mask
    if files and mask in ("files", "auto"):  # then what they hold decides what is learned
        Image.new("L", (4, 4), 9).save(root / "recipes" / "bear" / files[0])
        assert planned(root, store, facts=facts)[1].tasks[0].training != task.training


def test_only_what_changes_is_planned(root: Path, store: Store) -> None:
    pretend_to_build(root, store)
    write_images(root / "recipes" / "bear", "3.png")
    assert reasons(root, store)["cat"] == ""
    assert list(reasons(root, store, names=["cat"])) == ["cat"]


def test_a_change_of_the_card_finds_the_tensors_again(root: Path, store: Store) -> None:
    pretend_to_build(root, store)
    write_recipe(root, "bear", tables="[render]\nbias = 0.5")
    task = planned(root, store)[1].tasks[0]
    assert task.built is None
    assert task.reusable is not None
    write_recipe(root, "bear", tables="[train]\nseed = 5")
    assert planned(root, store)[1].tasks[0].reusable is None


@pytest.mark.parametrize("table", ['preset = "editable"', 'key_lock = "global"'])
def test_what_was_locked_when_a_table_meant_other_numbers_keeps_them(
    root: Path, store: Store, table: str
) -> None:
    write_recipe(root, "bear", tables=f"[render]\n{table}")
    project, made = planned(root, store)
    task, _ = made.tasks
    assert isinstance(task.render, RenderOptions)
    assert task.render.relative_bias == (1.0 if "preset" in table else None)
    assert task.render.bias == (None if "preset" in table else 0.5)
    # As a perf of yesterday built and locked it: a preset was the paper's bias, and a lock changed none.
    before = RenderOptions(bias=0.75) if "preset" in table else RenderOptions(key_lock="global", bias=0.65)
    digest = card_key(task.training, task.recipe, before)
    assert digest != task.digest
    sha256 = store.put(save_artifact(artifact(render=before, recipe_digest=digest, name="bear")))
    store.record(digest, sha256)
    store.record(task.training, sha256)
    older = replace(task, render=before, digest=digest, built=sha256, reason="")
    write_lockfile(root / "perfusion.lock", lock(project, replace(made, tasks=(older,)), store))
    assert reasons(root, store, names=["bear"]) == {"bear": ""}
    (kept,) = planned(root, store, names=["bear"])[1].tasks
    assert (kept.render, kept.digest) == (before, digest)
    # Built anew, or with a recipe that was changed, it is what the table means now.
    (forced,) = planned(root, store, names=["bear"], force=True)[1].tasks
    assert (forced.render, forced.digest) == (task.render, task.digest)
    write_recipe(root, "bear", tables=f"[render]\n{table}\ntemperature = 0.2")
    (changed,) = planned(root, store, names=["bear"])[1].tasks
    assert changed.render == task.render.model_copy(update={"temperature": 0.2})
    assert (changed.reason, changed.reusable) == ("render options changed", sha256)


def test_damaged_and_missing_artifacts_are_built_again(root: Path, store: Store) -> None:
    after = pretend_to_build(root, store)
    bear, cat = (store.path(concept.sha256 or "") for concept in after.concepts)
    bear.write_bytes(b"damaged")
    cat.unlink()
    assert set(reasons(root, store).values()) == {"its artifact is not in this store"}


def test_locked_bytes_are_not_replaced_by_others_of_the_same_recipe(root: Path, store: Store) -> None:
    locked = pretend_to_build(root, store)
    project, made = planned(root, store)
    store.record(made.tasks[0].digest, store.put(b"built by other arithmetic"))
    assert lock(*planned(root, store), store) == locked
    store.path(locked.concepts[0].sha256 or "").unlink()
    assert reasons(root, store)["bear"] == "its artifact is not in this store"
    assert lock(*planned(root, store), store) == locked
    project, made = planned(root, store)
    relocked = lock(project, made, store, replaced=["bear"])
    assert relocked.concepts[0].sha256 is None
    assert relocked.concepts[1] == locked.concepts[1]


def test_locking_is_byte_identical_and_follows_the_manifest(root: Path, store: Store) -> None:
    after = pretend_to_build(root, store)
    assert dump_lockfile(lock(*planned(root, store), store)) == dump_lockfile(after)
    (root / "perfusion.toml").write_text(
        (root / "perfusion.toml").read_text().replace('cat = { recipe = "recipes/cat.toml" }', "")
    )
    fewer = lock(*planned(root, store), store)
    assert [concept.name for concept in fewer.concepts] == ["bear"]
    assert differences(after, fewer) == ["`cat` is needed no longer"]
    assert differences(fewer, after) == ["`cat` is not locked yet"]
    assert differences(after, after) == []


def test_locking_a_part_keeps_the_rest(root: Path, store: Store) -> None:
    before = pretend_to_build(root, store)
    write_recipe(root, "cat", tables="[train]\nseed = 5")
    write_recipe(root, "bear", tables="[train]\nseed = 5")
    after = lock(*planned(root, store, names=["bear"]), store)
    assert after.concepts[1] == before.concepts[1]
    assert after.concepts[0].sha256 is None


def test_a_newer_revision_stays_where_nothing_changes(root: Path, store: Store) -> None:
    pretend_to_build(root, store)
    path = root / "perfusion.lock"
    path.write_text(path.read_text().replace("revision = 1", "revision = 9\nnovel = 1"))
    assert lock(*planned(root, store), store) == read_lockfile(path)
    assert read_lockfile(path).revision == 9


def test_the_base_is_locked_file_by_file(root: Path, store: Store) -> None:
    files = (File("unet/config.json", "1" * 64, 10), File("vae/config.json", "2" * 64, 20))
    after = lock(*planned(root, store, Facts(revision="5" * 40, files=files)), store)
    assert after.base is not None
    assert [(file.path, file.size) for file in after.base.files] == [(file.path, file.size) for file in files]
    assert after.base.revision == "5" * 40


def test_a_project_is_found_from_below(root: Path) -> None:
    below = root / "recipes" / "bear"
    assert ProjectFolder.find(below).root == root
    with pytest.raises(PerfError, match=r"no perfusion.toml here"):
        ProjectFolder.find(root.parent)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "recipes/bear.toml").unlink(), "there is no recipe here"),
        (lambda root: shutil.rmtree(root / "recipes/bear"), "no image matches"),
        (lambda root: (root / "C.safetensors").unlink(), "no covariance file"),
        (
            lambda root: shutil.copy(root / "recipes/cat.toml", root / "recipes/bear.toml"),
            "the recipe declares `cat`, but the manifest calls it `bear`",
        ),
    ],
)
def test_a_project_with_a_hole_is_an_error(
    root: Path, store: Store, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(root)
    with pytest.raises(PerfError, match=said):
        planned(root, store)


def test_an_unknown_concept_and_one_of_a_registry_are_errors(root: Path, store: Store) -> None:
    with pytest.raises(PerfError, match="did you mean `bear`"):
        planned(root, store, names=["baer"])
    manifest = root / "perfusion.toml"
    manifest.write_text(manifest.read_text().replace('recipe = "recipes/cat.toml"', 'version = ">1"'))
    with pytest.raises(PerfError, match="comes from a registry"):
        planned(root, store, names=["cat"])
    assert [task.name for task in planned(root, store)[1].tasks] == ["bear"]


def test_a_base_without_a_covariance_says_how_to_get_one(root: Path) -> None:
    manifest = root / "perfusion.toml"
    manifest.write_text(manifest.read_text().replace('covariance = "C.safetensors"', ""))
    with pytest.raises(PerfError) as caught:
        find_covariance(ProjectFolder.read(root), None)
    assert "perf covariance" in (caught.value.hint or "")
    assert find_covariance(ProjectFolder.read(root), root / "C.safetensors").locked.shape == (2, 2)


def test_planning_imports_no_torch(root: Path, store: Store) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.resolve.samples import planned;"
        "from perfusion_registry.artifact import Store; planned(Path(sys.argv[1]), Store(Path(sys.argv[2])));"
        "assert 'torch' not in sys.modules, 'torch'; assert 'numpy' not in sys.modules, 'numpy'"
    )
    command = [sys.executable, "-c", program, str(root), str(store.root)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])


def test_an_image_that_has_not_changed_is_not_hashed_again(tmp_path: Path) -> None:
    root, store = write_project(tmp_path / "p", "bear"), Store(tmp_path / "store")
    first = planned(root, store)[1].tasks[0]
    image = first.images[0]
    told = "f" * 64  # which is believed, so nothing was read
    FileDigests(store.root, settle=0.0).remembered("sha256", image.path, lambda _: told)
    again = planned(root, store)[1].tasks[0]
    assert told in [source.sha256 for source in again.images]
    assert again.digest != first.digest
    image.path.write_bytes(image.path.read_bytes())
    assert planned(root, store)[1].tasks[0].digest == first.digest
