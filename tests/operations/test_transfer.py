"""`build --for BASE`: what is locked, what is up to date, and what a transfer cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from perfusion_registry.artifact import load_artifact, read_card
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.add import AddOptions, add
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.cache import prune_cache
from perfusion_registry.operations.compose import PromptOptions, compose
from perfusion_registry.operations.info import info
from perfusion_registry.operations.job import PictureSource
from perfusion_registry.operations.lock import LockOptions, lock
from perfusion_registry.operations.publish import PublishOptions, publish
from perfusion_registry.operations.rebuild import RebuildOptions, rebuild
from perfusion_registry.operations.release_facts import ReleaseFacts
from perfusion_registry.operations.render import RenderOptions, render
from perfusion_registry.operations.sync import SyncOptions, sync
from perfusion_registry.operations.transfer import TransferOptions, transfer
from perfusion_registry.operations.verify import verify
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.render import read_metadata
from perfusion_registry.reporter import Silent
from tests.operations.conftest import edit
from tests.operations.stand_in import stand_in
from tests.tiny import save_tiny_base


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base of the same shapes and another family."""
    return save_tiny_base(tmp_path_factory.mktemp("other") / "base", seed=1)


def block_family(lockfile: Path) -> str:
    """The family of the base that is locked."""
    base = read_lockfile(lockfile).base
    assert base is not None
    return base.family


class Heard(Silent):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def moved_to(project: Path, tiny_base_folder: Path, other: Path) -> None:
    """Give the project the other base, and a covariance of that."""
    edit(project / "perfusion.toml", str(tiny_base_folder), str(other))
    sample = torch.randn(200, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    save_file({"C": sample.T @ sample / 200}, project / "C.safetensors")


def test_a_project_that_takes_another_base(project: Path, tiny_base_folder: Path, other: Path) -> None:
    """One command, no training; then everything is as if the concept had been built there."""
    lockfile = project / "perfusion.lock"
    with Workspace.open(project) as workspace:
        (first,) = build(workspace, BuildOptions()).built
        moved_to(project, tiny_base_folder, other)

        prompt = PromptOptions(prompt="a bear* in the snow")
        with pytest.raises(PerfError, match="of another family") as refused:
            render(workspace, RenderOptions(source=prompt, out=Path("a.png")))
        assert f"`perf build bear --for {other}` transfers it to this base" in (refused.value.hint or "")

        options = TransferOptions(base=str(other))
        before = lockfile.read_bytes()
        (ahead,) = transfer(workspace, TransferOptions(base=str(other), dry_run=True)).needed
        assert (ahead.name, ahead.reason) == ("bear", "transferred")
        assert lockfile.read_bytes() == before
        (row,) = transfer(workspace, options).built
        assert (row.name, row.version, row.trained) == ("bear", first.version, False)
        assert row.transferred is not None
        assert (row.transferred.sha256, row.transferred.base) == (first.sha256, str(tiny_base_folder))
        assert row.sha256 != first.sha256

        block = read_lockfile(lockfile).concept("bear")
        assert block is not None
        assert (block.transferred, block.sha256) == (first.sha256, row.sha256)
        text = lockfile.read_text(encoding="utf-8")
        assert "version = 2\nrevision = 1\n" in text
        render(workspace, RenderOptions(source=prompt, out=Path("a.png")))

        # Nothing is to be done any more, whoever asks.
        assert transfer(workspace, options).up_to_date == ("bear",)
        assert build(workspace, BuildOptions()).up_to_date == ("bear",)
        assert lock(workspace, LockOptions(check=True)).up_to_date
        assert sync(workspace, SyncOptions(locked=True)).present == ("bear",)
        assert verify(workspace).whole
        told = info(workspace, "bear")
        assert (told.learned_on, told.similarity) == (str(tiny_base_folder), row.card.own_similarity)
        (again,) = rebuild(workspace, RebuildOptions()).rebuilt
        assert again.same_bytes
        assert lockfile.read_text(encoding="utf-8") == text

        # Pruning keeps what it came from: from that it is made again, to the byte.
        workspace.store.path(row.sha256).unlink()
    prune_cache(workspace.store.root)
    with Workspace.open(project) as workspace:
        assert workspace.store.has(first.sha256)
        assert sync(workspace, SyncOptions()).to_build == ("bear",)
        (made,) = build(workspace, BuildOptions(locked=True)).built
        assert (made.sha256, made.trained) == (row.sha256, False)

        # What others read of it is a card, and no reason to transfer again.
        word = 'supercategory = "teddy"'
        edit(project / "recipes" / "bear.toml", word, f'{word}\nlicence = "MIT"')
        (carded,) = build(workspace, BuildOptions()).built
        assert (carded.trained, carded.card.licence) == (False, "MIT")
        assert carded.card.transferred == row.transferred

        # It goes out for its base, as any other; whoever loads it there learns where it was learned.
        (project / "registry").mkdir()
        text = (project / "perfusion.toml").read_text(encoding="utf-8")
        registries = '\n[registries]\nown = "registry"\n'
        (project / "perfusion.toml").write_text(text + registries, encoding="utf-8")
        facts = ReleaseFacts(authors=("You",))
        (out,) = publish(workspace, PublishOptions(names=("bear",), facts=facts)).releases
        assert (out.release.family, out.release.base) == (block_family(lockfile), other.name)
        published = read_card(workspace.store.path(out.release.sha256))
        assert published.authors == ("You",)
        assert published.transferred == row.transferred

        # What would be learned otherwise is learned here.
        (trained,) = build(workspace, BuildOptions(force=True)).built
        assert (trained.trained, trained.transferred) == (True, None)
        assert "transferred" not in lockfile.read_text(encoding="utf-8")


def test_what_perf_lock_forgot_is_found_in_the_store(
    project: Path, tiny_base_folder: Path, other: Path
) -> None:
    sha256 = stand_in(project, form=2)
    with Workspace.open(project) as workspace:
        moved_to(project, tiny_base_folder, other)
        assert not lock(workspace, LockOptions()).up_to_date
        block = read_lockfile(project / "perfusion.lock").concept("bear")
        assert block is not None
        assert block.sha256 is None
        (ahead,) = transfer(workspace, TransferOptions(base=str(other), dry_run=True)).needed
        assert ahead.name == "bear"
        edit(project / "recipes" / "bear.toml", 'supercategory = "teddy"', 'supercategory = "cat"')
        file = workspace.store.path(sha256)
        with pytest.raises(PerfError, match="the file has bear"):
            transfer(workspace, TransferOptions(base=str(other), files=(file,)))
        with pytest.raises(PerfError, match="built on no other base"):
            transfer(workspace, TransferOptions(base=str(other)))


def test_of_all_concepts_those_are_transferred_that_can_be(
    project: Path, tiny_base_folder: Path, other: Path
) -> None:
    stand_in(project, form=2)
    moved_to(project, tiny_base_folder, other)
    reporter = Heard()
    with Workspace.open(project, reporter=reporter) as workspace:
        add(workspace, AddOptions(name="hare", supercategory="cat", images=("photos/*",)))
        rows = transfer(workspace, TransferOptions(base=str(other), dry_run=True)).needed
        assert [row.name for row in rows] == ["bear"]
        assert [text.split(" was")[0] for text in reporter.warnings] == ["`hare` 1.0.0"]
        with pytest.raises(PerfError, match="built on no other base"):
            transfer(workspace, TransferOptions(base=str(other), names=("hare",)))


def test_to_a_base_that_is_not_the_projects_nothing_is_locked(project: Path, other: Path) -> None:
    with Workspace.open(project) as workspace:
        with pytest.raises(PerfError, match="nothing is built or fetched"):
            transfer(workspace, TransferOptions(base=str(other)))
        (first,) = build(workspace, BuildOptions()).built
        locked = (project / "perfusion.lock").read_bytes()
        with pytest.raises(PerfError, match="needs a covariance of the base") as caught:
            transfer(workspace, TransferOptions(base=str(other)))
        assert f"perf covariance CAPTIONS --base {other} --out FILE" in (caught.value.hint or "")
        there = TransferOptions(
            base=str(other), covariance=Path("C.safetensors"), out=Path("bear.safetensors")
        )
        (row,) = transfer(workspace, there).built
        made = load_artifact(project / "bear.safetensors")
        assert made.card.transferred is not None
        assert (made.card.transferred.sha256, row.sha256) == (first.sha256, row.sha256)
        assert (project / "perfusion.lock").read_bytes() == locked
        (again,) = transfer(workspace, there).built
        assert again.sha256 == row.sha256
        assert lock(workspace, LockOptions(check=True)).up_to_date


def test_a_prompt_is_drawn_on_another_base(project: Path, other: Path) -> None:
    """Figure 12 in one command; the picture names what drew it, and is drawn again from that."""
    prompt = PromptOptions(prompt="a bear* in the snow", base=str(other), covariance=Path("C.safetensors"))
    with Workspace.open(project) as workspace:
        (first,) = build(workspace, BuildOptions()).built
        locked = (project / "perfusion.lock").read_bytes()
        without = PromptOptions(prompt="a bear* in the snow", base=str(other))
        with pytest.raises(PerfError, match="needs a covariance of the base"):
            compose(workspace, without)
        composition = compose(workspace, prompt)
        (concept,) = composition.concepts
        assert concept.sha256 != first.sha256
        assert composition.base.repo == str(other)
        (row,) = transfer(workspace, TransferOptions(base=str(other), covariance=Path("C.safetensors"))).built
        assert row.sha256 == concept.sha256, "it was in the store already"
        render(workspace, RenderOptions(source=prompt, out=Path("a.png")))
        render(workspace, RenderOptions(source=PictureSource(picture=Path("a.png")), out=Path("b.png")))
        assert read_metadata(project / "a.png").same_picture(read_metadata(project / "b.png"))
        assert (project / "perfusion.lock").read_bytes() == locked
    with pytest.raises(PerfError, match="none is named"):
        PromptOptions(prompt="a bear*", covariance=Path("C.safetensors"))


def test_a_changed_recipe_is_learned_and_not_transferred(project: Path, tiny_base_folder: Path) -> None:
    stand_in(project, form=2)
    edit(project / "recipes" / "bear.toml", "steps = 1\nmask", "steps = 2\nmask")
    with Workspace.open(project) as workspace:
        with pytest.raises(PerfError, match="learned on this base already") as caught:
            transfer(workspace, TransferOptions(base=str(tiny_base_folder)))
        assert "options changed" in caught.value.what
        assert caught.value.hint == "run `perf build bear`"


def test_a_file_of_somebody_else_is_transferred_to_the_projects_base(
    project: Path, tiny_base_folder: Path, other: Path
) -> None:
    """It has no recipe here, so nothing is locked; the covariance is the project's."""
    with Workspace.open(project) as workspace:
        build(workspace, BuildOptions())
        made, C = Path("bear.safetensors"), Path("C.safetensors")
        transfer(workspace, TransferOptions(base=str(other), covariance=C, out=made))
        (project / "perfusion.lock").unlink()
        text = (project / "perfusion.toml").read_text(encoding="utf-8")
        (project / "perfusion.toml").write_text(text.split("[concepts]")[0], encoding="utf-8")
        own = TransferOptions(base=str(tiny_base_folder), files=(made,), out=Path("back.safetensors"))
        result = transfer(workspace, own)
        assert not result.locked
        back = load_artifact(project / "back.safetensors").card
        assert back.transferred is not None
        assert back.transferred.base == str(other)
        assert not (project / "perfusion.lock").exists()
        prompt = PromptOptions(prompt="a bear*", files=(Path("back.safetensors"),))
        assert compose(workspace, prompt).concepts[0].name == "bear"


def test_changed_pictures_are_learned_and_not_transferred(
    project: Path, tiny_base_folder: Path, other: Path
) -> None:
    stand_in(project, form=2)
    (project / "photos" / "3.png").unlink()
    moved_to(project, tiny_base_folder, other)
    with (
        Workspace.open(project) as workspace,
        pytest.raises(PerfError, match="pictures of `bear` have changed"),
    ):
        transfer(workspace, TransferOptions(base=str(other)))
