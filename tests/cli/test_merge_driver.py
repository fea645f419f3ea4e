"""The merge driver, run by git itself."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from perfusion_registry.recipe import Lockfile, read_lockfile, write_lockfile
from perfusion_registry.recipe.lockfile_text import parse_lockfile
from perfusion_registry.recipe.merge import merge_three
from tests.cli.running import git, perf_process
from tests.recipe.test_lockfile import BASE, concept, lock


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose lockfile merges with the driver."""
    git(tmp_path, "init", "-q", "-b", "main")
    for key, value in (
        ("user.name", "A"),
        ("user.email", "a@example.org"),
        ("merge.perf.driver", shlex.join(perf_process("merge-driver")) + " %O %A %B"),
    ):
        git(tmp_path, "config", key, value)
    (tmp_path / ".gitattributes").write_text("perfusion.lock merge=perf\n")
    return tmp_path


def commit(folder: Path, branch: str, made: Lockfile) -> None:
    git(folder, "checkout", "-q", "-B", branch)
    write_lockfile(folder / "perfusion.lock", made)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", branch)


def test_git_merges_what_two_branches_added_and_marks_what_both_changed(repository: Path) -> None:
    path = repository / "perfusion.lock"
    commit(repository, "main", lock("bear"))
    commit(repository, "cat", lock("bear", "cat"))
    git(repository, "checkout", "-q", "main")
    commit(repository, "dog", lock("bear", "dog"))
    git(repository, "merge", "-q", "cat", "-m", "both")
    assert read_lockfile(path) == lock("bear", "cat", "dog")

    newer = [concept("bear", version) for version in ("2.0", "3.0")]
    commit(repository, "main", Lockfile(base=BASE, concepts=(concept("bear"), concept("cat"))))
    commit(repository, "left", Lockfile(base=BASE, concepts=(newer[0], concept("ant"))))
    git(repository, "checkout", "-q", "main")
    commit(repository, "right", Lockfile(base=BASE, concepts=(newer[1], concept("cat"), concept("eel"))))
    said = git(repository, "merge", "-q", "left", "-m", "both", code=1)
    assert "both branches changed `bear`" in " ".join(said.split())
    text = path.read_text()
    assert text.count("<<<<<<<") == 1
    healed = parse_lockfile(text, "perfusion.lock", drop_conflicts=True)
    assert healed == Lockfile(base=BASE, concepts=(concept("ant"), concept("eel")))
    assert 'version = "2.0"' in text
    assert 'version = "3.0"' in text


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "merged", "conflicts"),
    [
        ("1", "1", "2", "2", False),
        ("1", "2", "1", "2", False),
        ("1", "2", "2", "2", False),
        ("1", "2", "3", None, True),
        ("1", None, "1", None, False),
        ("1", "1", None, None, False),
        ("1", None, None, None, False),
        ("1", None, "2", None, True),
        (None, "1", None, "1", False),
        (None, "1", "1", "1", False),
        (None, "1", "2", None, True),
    ],
)
def test_one_block(
    base: str | None, ours: str | None, theirs: str | None, merged: str | None, conflicts: bool
) -> None:
    sides = [
        Lockfile(base=BASE, concepts=(concept("bear", version),) if version else ())
        for version in (base, ours, theirs)
    ]
    made = merge_three(*sides)
    assert made.conflicts == (("bear",) if conflicts else ())
    if conflicts:
        assert (made.ours, made.theirs) == (sides[1], sides[2])
    else:
        assert made.ours == made.theirs
        found = made.ours.concept("bear")
        assert (found.version if found else None) == merged
