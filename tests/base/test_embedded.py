"""The embedded base is a distribution of its own, which knows its editions."""

from __future__ import annotations

import tomllib
from pathlib import Path

import perfusion_storybook
import pytest
from packaging.requirements import Requirement

from perfusion_registry.base import describe_base
from perfusion_registry.base.embedded import another_edition, distribution_folder, editions, embedded_folder
from perfusion_registry.errors import PerfError
from tests.editions import install_edition

ROOT = Path(__file__).parents[2]


def test_the_installed_edition_is_the_last_that_it_lists() -> None:
    """Lockfiles, pictures and artifacts know it by these."""
    here, base = editions()[-1], describe_base("storybook")
    assert (here.version, here.digest, here.family) == (
        perfusion_storybook.__version__,
        base.digest,
        base.family,
    )
    assert len({edition.digest for edition in editions()}) == len(editions())
    assert another_edition(here.digest) is another_edition(here.family) is None


def test_models_ask_for_this_edition() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (needed,) = [
        requirement
        for requirement in map(Requirement, project["optional-dependencies"]["models"])
        if requirement.name == "perfusion-storybook"
    ]
    assert needed.specifier.contains(perfusion_storybook.__version__)


def test_another_edition_is_told_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, here = describe_base("storybook"), perfusion_storybook.__version__
    second = install_edition(tmp_path, monkeypatch, "9.0.0")
    assert embedded_folder() == tmp_path / "perfusion_storybook" / "weights"
    assert describe_base("storybook").digest == second != first.digest
    another = another_edition(first.digest)
    assert another is not None
    assert another.locked == (
        f"Storybook {here} ({first.digest[:12]}) is locked, and Storybook 9.0.0 ({second[:12]}) is installed"
    )
    assert another.hint == f"pip install 'perfusion-storybook=={here}'"
    unknown = another_edition("f" * 64)
    assert unknown is not None
    assert unknown.hint == "pip install -U perfusion-storybook"
    assert another_edition("f" * 64, known_only=True) is None


def test_one_that_is_not_whole_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_edition(tmp_path, monkeypatch, "9.0.0")
    (distribution_folder() / "weights" / "model_index.json").unlink()
    with pytest.raises(PerfError, match="the installed Storybook is not whole") as refused:
        describe_base("storybook")
    assert "pip install --force-reinstall perfusion-storybook" in (refused.value.hint or "")
