"""Building under another supercategory: a file, and a lockfile that stays true."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.artifact import load_artifact
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.compose import PromptOptions, compose
from perfusion_registry.operations.job import PictureSource
from perfusion_registry.operations.lock import LockOptions, lock
from perfusion_registry.operations.render import RenderOptions, render
from perfusion_registry.operations.substitute import SupercategoryOverride, build_substitute
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.render import read_metadata


def test_a_concept_under_another_supercategory(project: Path) -> None:
    recipe, lockfile = project / "recipes" / "bear.toml", project / "perfusion.lock"
    override = SupercategoryOverride("bear", "boat", Path("boat.safetensors"))
    with Workspace.open(project) as workspace:
        (first,) = build(workspace, BuildOptions()).built
        written = lockfile.read_bytes(), recipe.read_bytes()

        (ahead,) = build_substitute(workspace, override, BuildOptions(dry_run=True)).needed
        assert (ahead.name, ahead.reason) == ("bear", "under another supercategory")
        assert not (project / "boat.safetensors").exists()
        result = build_substitute(workspace, override, BuildOptions())
        (row,) = result.built
        assert (row.name, row.trained, result.out) == ("bear", True, "boat.safetensors")
        made = load_artifact(project / "boat.safetensors")
        ours = load_artifact(workspace.store.get(first.sha256))
        assert (made.card.name, made.card.supercategory, ours.card.supercategory) == ("bear", "boat", "teddy")
        assert made.card.recipe_digest != ours.card.recipe_digest
        assert not made.tensors["target_input"].equal(ours.tensors["target_input"])

        # What is locked is the recipe's own concept, and everybody still says so.
        assert (lockfile.read_bytes(), recipe.read_bytes()) == written
        assert lock(workspace, LockOptions(check=True)).up_to_date
        assert build(workspace, BuildOptions()).up_to_date == ("bear",)
        assert build_substitute(workspace, override, BuildOptions()).built == ()

        # Prompts take the file; its picture names it by hash, and is drawn again from that.
        prompt = PromptOptions(prompt="a bear*", files=(Path("boat.safetensors"),))
        (composed,) = compose(workspace, prompt).concepts
        assert (composed.supercategory, composed.sha256) == ("boat", row.sha256)
        render(workspace, RenderOptions(source=prompt, out=Path("a.png")))
        (project / "boat.safetensors").unlink()
        render(workspace, RenderOptions(source=PictureSource(picture=Path("a.png")), out=Path("b.png")))
        assert read_metadata(project / "a.png").same_picture(read_metadata(project / "b.png"))
        assert lockfile.read_bytes() == written[0]


def test_where_no_artifact_can_be_written_is_refused_at_once(place: Path) -> None:
    for out in ("boat.png", "no/b.safetensors"):
        with pytest.raises(PerfError, match="in a folder that exists"):
            SupercategoryOverride("bear", "boat", Path(out))


def test_words_that_can_be_no_supercategory(project: Path) -> None:
    with Workspace.open(project) as workspace:
        for word, why in (("b*", "cannot be a supercategory"), ("okapi", "no word that this base knows")):
            override = SupercategoryOverride("bear", word, Path("b.safetensors"))
            with pytest.raises(PerfError, match=why):
                build_substitute(workspace, override, BuildOptions())
    assert not (project / "perfusion.lock").exists()
