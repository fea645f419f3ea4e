"""A project in a program: its methods do what the commands do."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import perfusion_registry as perf
from perfusion_registry.build import load_covariance


def printed(*arguments: str) -> Any:
    """What a command prints with `--json`, run in this process."""
    from perfusion_registry.cli import app

    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return json.loads(result.stdout)


ASKED: dict[str, tuple[Callable[[perf.Project], Any], tuple[str, ...]]] = {
    "lock": (lambda p: p.lock(), ("lock",)),
    "check": (lambda p: p.lock(check=True), ("lock", "--check")),
    "sync": (lambda p: p.sync(), ("sync",)),
    "concepts": (lambda p: p.concepts(), ("list",)),
    "outdated": (lambda p: p.outdated(), ("list", "--outdated")),
    "tree": (lambda p: p.tree(), ("tree",)),
    "metadata": (lambda p: p.metadata(), ("metadata",)),
    "verify": (lambda p: p.verify(), ("verify",)),
    "search": (lambda p: p.search("teddy"), ("search", "teddy")),
    "info": (lambda p: p.info("teapot"), ("info", "teapot")),
    "info of a release": (lambda p: p.info("gallery/teddy==1.0.0"), ("info", "gallery/teddy==1.0.0")),
    "doctor": (lambda p: p.doctor(), ("doctor",)),
    "yank": (
        lambda p: p.yank("teddy", "1.0.0", dry_run=True),
        ("yank", "teddy==1.0.0", "--dry-run", "--registry", "gallery"),
    ),
}


@pytest.mark.parametrize("verb", ASKED)
def test_a_method_returns_what_its_command_prints(
    project: perf.Project, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, command = ASKED[verb]
    monkeypatch.chdir(project.root)
    usage = shutil.disk_usage(project.root)  # `doctor` tells how much is free, which other processes change
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert method(project).printed() == printed(*command)


def test_a_project_is_opened_locked_synced_changed_and_shared(place: Path) -> None:
    with pytest.raises(perf.PerfError, match=r"there is no perfusion\.toml here"):
        perf.open(place)
    project = perf.open(place / "tea-party")
    assert project.root == place / "tea-party"
    assert not project.lock(check=True).up_to_date
    assert [change.split()[0] for change in project.lock().changes]
    assert project.sync().fetched == ("teapot 1.0.0", "teddy 1.0.0")
    assert project.sync().present == ("teapot", "teddy")
    assert project.verify().whole

    (project.root / "recipes").mkdir()
    assert project.vendor(place / "vendored").copied == ("teapot 1.0.0", "teddy 1.0.0")
    assert perf.open(place / "vendored").sync(frozen=True).present == ("teapot", "teddy")
    assert project.remove("teapot").removed == ("teapot",)
    assert [row.name for row in project.concepts().concepts] == ["teddy"]
    assert project.add_release("teapot", registry="gallery").resolved == "1.0.0"
    with pytest.raises(perf.PerfError, match="there is a concept `teapot` already"):
        project.add("teapot", "pot", [place / "*.png"])
    assert project.publish(registry="../elsewhere").releases == ()

    project.remove("teapot")
    with pytest.raises(perf.PerfError, match="the registry needs a name"):
        project.add_release("teapot", registry="../vendored")
    added = project.add_release("copy/teapot", ">=1", registry="../vendored")
    assert (added.registry, added.version, added.resolved) == ("copy", ">=1", "1.0.0")
    assert 'copy = "../vendored"' in (project.root / "perfusion.toml").read_text(encoding="utf-8")
    assert project.sync().changes
    assert {row.name for row in project.concepts().concepts} == {"teapot", "teddy"}
    assert repr(project) == f"Project({str(place / 'tea-party')!r})"


def test_a_project_is_created_and_built(place: Path, tiny_base: Any) -> None:
    project = perf.create("new", base=str(place / "base"))
    manifest = project.root / "perfusion.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(
        text.replace("\n# Each", 'covariance = "../C.safetensors"\n\n# Each', 1), encoding="utf-8"
    )
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(place / "1.png")
    project.add("bear", "teddy", [place / "1.png"], copy=True, steps=1)
    recipe = project.root / "recipes" / "bear.toml"
    quick = 'mask = "none"\nvalidation_steps = 1\nvalidation_prompts = ["a {}"]\nvalidate_every = 1\n'
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("[train]\n", f"[train]\n{quick}", 1), encoding="utf-8")
    assert [row.name for row in project.build(dry_run=True).needed] == ["bear"]
    (built,) = project.build("bear", device="cpu").built
    assert built.steps_kept == 1
    assert built.card.supercategory == "teddy"
    assert project.build().up_to_date == ("bear",)
    (other,) = project.build_as("bear*", "boat", place / "boat.safetensors", device="cpu").built
    assert other.card.supercategory == "boat"
    assert perf.load_concepts(tiny_base.pipe, place / "boat.safetensors")["bear"].sha256 == other.sha256
    assert project.verify().whole
    with pytest.raises(perf.PerfError, match="cannot be published without licence"):
        project.publish("bear", registry=str(place / "gallery"))


def test_a_lockfile_alone_is_synced_and_opened(project: perf.Project, place: Path) -> None:
    project.vendor(place / "vendored")
    taken = perf.sync_lockfile(place / "vendored" / "perfusion.lock", place / "taken", store=place / "empty")
    assert [path.name for path in (place / "taken").iterdir()] == ["perfusion.lock"]
    assert taken.sync(frozen=True).present == ("teapot", "teddy")
    assert taken.verify().whole
    with pytest.raises(perf.PerfError, match="there is a project here already"):
        perf.sync_lockfile(place / "vendored" / "perfusion.lock", place / "tea-party")
    with pytest.raises(perf.PerfError, match="the lockfile cannot be read"):
        perf.sync_lockfile(place / "none.lock", place / "other")


def test_a_covariance_is_estimated(place: Path) -> None:
    captions = place / "captions.txt"
    captions.write_text("a teddy in a teapot\na boat on the sea\n" * 3, encoding="utf-8")
    result = perf.estimate_covariance(
        captions, place / "D.safetensors", base=str(place / "base"), device="cpu"
    )
    assert (result.captions, result.width) == (6, 32)
    assert load_covariance(place / "D.safetensors").digest == result.digest
    with pytest.raises(perf.PerfError, match="the folder of the output file does not exist"):
        perf.estimate_covariance([captions], place / "none" / "D.safetensors")


def test_what_a_project_cannot_do_is_told_at_once(project: perf.Project, place: Path) -> None:
    Image.linear_gradient("L").convert("RGB").save(place / "1.png")
    for what, mistake in {
        "the budget has a mistake": lambda: project.evaluate("paper", budget={"concepts": 0}),
        "there is no suite": lambda: project.evaluate("papers", budget={"seeds": 1}),
        "an artifact is a .safetensors file": lambda: project.build_as("bear", "boat", place / "boat.png"),
        "none": lambda: project.suggest([place / "1.png"], base="./none"),
        "no device called 'quantum'": lambda: project.composer(device="quantum"),
        "'fp4' is not a number format": lambda: project.build(dtype="fp4"),
    }.items():
        with pytest.raises(perf.PerfError, match=what):
            mistake()


def test_what_a_check_found_is_an_error_for_whoever_asks(project: perf.Project) -> None:
    project.verify().raise_if_failed()
    project.lock(check=True).raise_if_stale()
    with project.workspace() as workspace:
        lockfile = workspace.read().lockfile
        assert lockfile is not None
        (sha256,) = (block.sha256 for block in lockfile.concepts if block.name == "teddy")
        assert sha256 is not None
        workspace.store.path(sha256).unlink()
    with pytest.raises(perf.CheckFailedError, match="the check failed for teddy"):
        project.verify().raise_if_failed()
    manifest = project.root / "perfusion.toml"
    manifest.write_text(manifest.read_text("utf-8").replace("teapot", "teapots"), encoding="utf-8")
    with pytest.raises(perf.StaleLockfileError, match="not up to date"):
        project.lock(check=True).raise_if_stale()


def test_warnings_are_heard(project: perf.Project, tiny_base: Any, caplog: pytest.LogCaptureFixture) -> None:
    composer = perf.Composer(project.workspace, tiny_base)
    with caplog.at_level(logging.WARNING, logger="perfusion_registry"):
        composer.compose("a teddy* {bias=0.5} sailing")
    assert "the braces of a concept follow the star" in caplog.text


def test_every_name_is_there_and_hides_no_module() -> None:
    for name in perf.__all__:
        assert name in dir(perf)
        assert not (Path(perf.__file__).parent / name).exists()
        assert not (Path(perf.__file__).parent / f"{name}.py").exists()
        assert getattr(perf, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'compsed'"):
        perf.compsed  # noqa: B018
