"""The lockfile's text: it must survive version control, so git itself is the reference for merging."""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import (
    LockedBase,
    LockedConcept,
    LockedCovariance,
    LockedFile,
    Lockfile,
    read_lockfile,
    write_lockfile,
)
from perfusion_registry.recipe.lockfile_text import dump_lockfile, parse_lockfile

BASE = LockedBase(
    repo="storybook",
    revision=None,
    family="f" * 64,
    digest="d" * 64,
    files=(LockedFile(path="unet/config.json", sha256="1" * 64, size=10),),
)
COVARIANCE = LockedCovariance(sha256="c" * 64, shape=(768, 768), corpus="a" * 64)


def concept(name: str, version: str = "1.0", sha256: str | None = "2" * 64) -> LockedConcept:
    return LockedConcept(
        name=name,
        version=version,
        source=f"recipes/{name}.toml",
        recipe_digest="3" * 64,
        images="4" * 64,
        options="5" * 64,
        sha256=sha256,
        size=None if sha256 is None else 5120,
        render={"bias": 0.65, "temperature": 0.15, "key_lock": "local"},
    )


def lock(*names: str) -> Lockfile:
    return Lockfile(base=BASE, covariance=COVARIANCE, concepts=tuple(concept(name) for name in sorted(names)))


HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
CONCEPTS = st.lists(
    st.builds(
        LockedConcept,
        name=st.from_regex(r"[a-z]([a-z0-9]{0,5})", fullmatch=True).filter(
            lambda name: name not in ("con", "aux")
        ),
        version=st.sampled_from(["1", "1.2rc1", "2!1.0.post3"]),
        source=st.text(st.characters(exclude_categories=("Cs",))),
        recipe_digest=HEX,
        images=HEX,
        options=HEX,
        sha256=st.none() | HEX,
        size=st.none() | st.integers(0, 2**40),
        render=st.fixed_dictionaries(
            {
                "bias": st.floats(0, 2),
                "temperature": st.floats(1e-9, 10, exclude_min=True),
                "key_lock": st.sampled_from(["local", "global"]),
            }
        ),
    ),
    max_size=4,
    unique_by=lambda concept: concept.name,
)


@given(CONCEPTS, st.booleans())
def test_what_is_written_is_read_back_and_order_does_not_matter(
    concepts: list[LockedConcept], full: bool
) -> None:
    head = {"base": BASE, "covariance": COVARIANCE} if full else {}
    one = Lockfile(**head, concepts=tuple(concepts))
    text = dump_lockfile(one)
    assert text == dump_lockfile(Lockfile(**head, concepts=tuple(reversed(concepts))))
    read = parse_lockfile(text, "lock")
    assert read == Lockfile(**head, concepts=tuple(sorted(concepts, key=lambda c: c.name)))
    assert dump_lockfile(read) == text
    assert "\r" not in text
    assert all(line == "" or line[0] in "[#" or line.count(" = ") >= 1 for line in text.split("\n"))


def test_adding_a_concept_adds_its_block_and_nothing_else() -> None:
    before, after = dump_lockfile(lock("bear", "teapot")), dump_lockfile(lock("bear", "cat", "teapot"))
    changes = [line for line in difflib.ndiff(before.split("\n"), after.split("\n")) if line[0] in "+-"]
    assert all(line[0] == "+" for line in changes)
    assert len(changes) == 13  # 12 lines of the block, one blank
    bumped = Lockfile(base=BASE, covariance=COVARIANCE, concepts=(concept("bear", "1.1"), concept("teapot")))
    changes = list(difflib.ndiff(before.split("\n"), dump_lockfile(bumped).split("\n")))
    assert sorted(line[0] for line in changes if line[0] in "+-") == ["+", "-"]


def test_writing_twice_touches_the_file_once(tmp_path: Path) -> None:
    path = tmp_path / "perfusion.lock"
    assert write_lockfile(path, lock("bear"))
    before = path.stat().st_ino, path.stat().st_mtime_ns
    assert not write_lockfile(path, lock("bear"))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before
    assert read_lockfile(path) == lock("bear")


def test_a_newer_version_is_refused_and_a_newer_revision_is_read() -> None:
    text = dump_lockfile(lock("bear"))
    with pytest.raises(PerfError) as caught:
        parse_lockfile(text.replace("version = 1\n", "version = 3\n", 1), "perfusion.lock")
    assert "format 3" in caught.value.what
    assert "upgrade" in (caught.value.hint or "")
    newer = text.replace("revision = 1", "revision = 7").replace(
        "[covariance]", "[covariance]\nnovel = [1, 2]"
    )
    newer = newer.replace("[[concept]]", "[[concept]]\nnovel = 1") + "\n[novel]\nkey = 1\n"
    read = parse_lockfile(newer, "perfusion.lock")
    assert read.concepts == lock("bear").concepts
    assert read.base == BASE
    assert read.covariance == COVARIANCE
    assert read.revision == 7
    with pytest.raises(PerfError, match="unknown key"):
        parse_lockfile(newer.replace("revision = 7", "revision = 1"), "perfusion.lock")


def test_a_concept_locked_twice_is_an_error() -> None:
    text = dump_lockfile(lock("bear"))
    block = text[text.index("[[concept]]") :]
    with pytest.raises(PerfError, match="`bear` twice"):
        parse_lockfile(text + "\n" + block, "perfusion.lock")


def merged(tmp_path: Path, base: Lockfile, ours: Lockfile, theirs: Lockfile, *flags: str) -> str:
    """What git leaves in the file after merging two branches."""
    paths = [tmp_path / name for name in ("ours", "base", "theirs")]
    for path, side in zip(paths, (ours, base, theirs), strict=True):
        write_lockfile(path, side)
    run = subprocess.run(
        ["git", "merge-file", "-p", *flags, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert run.returncode >= 0
    return run.stdout


@pytest.mark.parametrize("flags", [[], ["--diff3"], ["--zdiff3"]])
@pytest.mark.parametrize(
    ("before", "ours", "theirs"),
    [
        (["bear"], ["bear", "cat"], ["bear", "dog"]),
        ([], ["cat"], ["dog"]),
        (["bear", "teapot"], ["bear", "cat", "pot", "teapot"], ["bear", "dog", "teapot", "zebra"]),
        (["bear"], ["bear", "cat", "dog"], ["bear", "dog", "eel"]),
    ],
)
def test_concepts_added_on_two_branches_are_healed(
    tmp_path: Path, flags: list[str], before: list[str], ours: list[str], theirs: list[str]
) -> None:
    text = merged(tmp_path, lock(*before), lock(*ours), lock(*theirs), *flags)
    assert "<<<<<<<" in text
    assert parse_lockfile(text, "perfusion.lock") == lock(*{*ours, *theirs})


def test_the_same_concept_locked_differently_needs_a_person(tmp_path: Path) -> None:
    def with_bear(version: str) -> Lockfile:
        return Lockfile(base=BASE, concepts=(concept("bear", version), concept("cat")))

    text = merged(tmp_path, with_bear("1"), with_bear("2"), with_bear("3"))
    with pytest.raises(PerfError) as caught:
        parse_lockfile(text, "perfusion.lock")
    assert "`bear` differently" in caught.value.what
    assert "perf lock" in (caught.value.hint or "")
    kept = parse_lockfile(text, "perfusion.lock", drop_conflicts=True)
    assert kept == Lockfile(base=BASE, concepts=(concept("cat"),))


@pytest.mark.parametrize("cut", ["<<<<<<<", "=======", ">>>>>>>"])
def test_half_resolved_markers_are_an_error(tmp_path: Path, cut: str) -> None:
    text = merged(tmp_path, lock("bear"), lock("bear", "cat"), lock("bear", "dog"))
    broken = "\n".join(line for line in text.split("\n") if not line.startswith(cut))
    with pytest.raises(PerfError, match="markers do not match up"):
        parse_lockfile(broken, "perfusion.lock")


def test_a_lockfile_that_was_cut_off_says_how_to_have_it_again(tmp_path: Path) -> None:
    path = tmp_path / "perfusion.lock"
    path.write_text("version = 2\n[[base.fi", encoding="utf-8")
    with pytest.raises(PerfError, match="not valid TOML") as caught:
        read_lockfile(path)
    assert "from version control" in (caught.value.hint or "")
