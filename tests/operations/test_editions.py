"""A project that was locked on another edition of Storybook is told which one it needs, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.base import describe_base
from perfusion_registry.base.embedded import distribution_folder, editions
from perfusion_registry.resolve.platform import Platform
from tests.editions import install_edition
from tests.golden.place import Said, assemble, perf
from tests.resolve.registry import release

FIRST = "Storybook 1.0.0 (633805b1e536)"
"""What the golden project `home` was locked on, and its teddy learned on."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A golden place."""
    (tmp_path / "place").mkdir()
    return assemble((tmp_path / "place").resolve())


def said(home: Path, *arguments: str, code: int) -> str:
    """All that a command says in the project, in one line."""
    done: Said = perf(home, "home", *arguments)
    assert done.code == code, done
    return " ".join((done.out + done.err).split())


def test_every_command_says_which_edition_is_locked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = editions()[
        -1
    ]  # a later one than `FIRST` is locked first, and may be of a family without that teddy
    if here.told != FIRST:
        said(home, "lock", code=0)
    called = "a teddy*" if here.family == editions()[0].family else "a teddy"
    second = f"Storybook 9.0.0 ({install_edition(tmp_path, monkeypatch, '9.0.0')[:12]})"
    both = f"{here.told} is locked, and {second} is installed"
    brings = f"pip install 'perfusion-storybook=={here.version}', or `perf lock` to take the installed one"
    stale = f"the base changed: {both} (pip install 'perfusion-storybook=={here.version}' brings the other)"
    locked = (("lock", "--check"), ("build", "--locked"), ("sync", "--locked"), ("compose", "a", "--locked"))
    for command in locked:
        assert stale in said(home, *command, code=1)
    for told in (said(home, "doctor", code=1), said(home, "verify", code=1)):
        assert both in told
        assert brings in told
    warned = said(home, "compose", called, "--out", "teddy.json", code=0)
    assert f"{both}, so pictures may differ ({brings})" in warned
    assert f"~ base {here.told} -> {second}" in said(home, "lock", code=0)
    assert f"base {second}, {len(describe_base('storybook').files)} files" in said(home, "doctor", code=0)
    assert here.told not in said(home, "lock", "--check", code=0)


def test_a_concept_of_another_family_says_what_it_was_learned_on(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_edition(tmp_path, monkeypatch, "9.0.0", other_family=True)
    refused = said(home, "compose", "a teddy*", code=2)
    assert f"'teddy' was learned on {FIRST}, and Storybook 9.0.0" in refused
    assert "`perf build teddy` learns it on this one; pip install 'perfusion-storybook==1.0.0'" in refused


def test_a_release_for_another_edition_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teddy = release("teddy", "1.0.0", family=editions()[0].family)
    install_edition(tmp_path, monkeypatch, "9.0.0", other_family=True)
    here = describe_base("storybook")
    refusal = Platform(here.repo, here.family, None, here.architecture).refusal(teddy)
    assert refusal == f"learned on {FIRST}; Storybook 9.0.0 ({here.digest[:12]}) is installed"


def test_a_picture_says_which_edition_drew_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = editions()[-1].told
    said(home, "render", "a cat", "--steps", "1", "--out", "cat.png", code=0)
    second = install_edition(tmp_path, monkeypatch, "9.0.0")
    refused = said(home, "render", "--from", "cat.png", code=2)
    assert f"picture was drawn with {here}, and Storybook 9.0.0 ({second[:12]}) is installed" in refused


def test_an_edition_that_is_damaged_is_installed_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(home, "lock", code=0)
    here = editions()[-1]
    damaged = install_edition(tmp_path, monkeypatch, here.version)
    listed = distribution_folder() / "editions.toml"
    listed.write_text(listed.read_text(encoding="utf-8").replace(damaged, here.digest), encoding="utf-8")
    told = said(home, "doctor", code=1)
    assert "its files are not those locked: perf-base.toml" in told
    assert "pip install --force-reinstall perfusion-storybook, or `perf lock` to take these" in told
