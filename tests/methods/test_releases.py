"""Releases and lockfiles of format 2, and of methods that are not here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import LockedConcept, Lockfile
from perfusion_registry.recipe.lockfile_text import dump_lockfile, parse_lockfile
from perfusion_registry.registries import Release
from perfusion_registry.registries.index import Index, Publish, read_index
from perfusion_registry.registries.known_index import reread
from perfusion_registry.registries.release import Preview
from perfusion_registry.resolve.resolution import resolve
from tests.recipe.test_lockfile import BASE, COVARIANCE, concept
from tests.resolve.registry import FAMILY, release
from tests.resolve.test_resolution import finder, requirement


def second(version: str, **changes: Any) -> Release:
    """A release of a method that this perf does not have."""
    values: dict[str, Any] = {
        "format": 2,
        "name": "teddy",
        "version": version,
        "method": "of-tomorrow",
        "sha256": "1" * 64,
        "size": 10,
        "architecture": "stable-diffusion",
        "family": FAMILY,
        "render": {"strength": 0.5},
        "preview": Preview(sha256="2" * 64, size=3),
    }
    return Release(**{**values, **changes})


def test_an_index_of_both_formats_is_one_index() -> None:
    index = Index("teddy")
    for one in (release("teddy", "1.0.0"), second("1.1.0"), release("teddy", "1.2.0")):
        index = index.appended(Publish(release=one))
    read = read_index(index.data, "teddy", "here")
    assert [one.release.format for one in read.sorted()] == [1, 2, 1]
    assert [one.release for one in reread(index.data, "teddy", "here")] == [
        one.release for one in read.sorted()
    ]
    first, other, _ = (json.loads(line)["release"] for line in index.data.splitlines())
    assert not {"method", "render", "architecture"} & first.keys()
    assert other["render"] == {"strength": 0.5}
    assert not {"bias", "temperature", "key_lock"} & other.keys()


@pytest.mark.parametrize("change", [{"method": "deep"}, {"render": {"bias": 0.5}}, {"architecture": "sdxl"}])
def test_format_1_has_its_own_keys_and_no_others(change: dict[str, Any]) -> None:
    said = json.loads(release("teddy", "1.0.0").model_dump_json(exclude_none=True)) | change
    with pytest.raises(ValueError, match="not a key of format 1"):
        Release.model_validate_json(json.dumps(said))


def test_a_release_of_a_method_that_is_not_here_is_shown_and_is_no_candidate() -> None:
    newer = second("1.1")
    made = finder(release("teddy", "1.0"), newer)
    assert resolve([requirement("teddy")], made)["teddy"].version == "1.0"
    with pytest.raises(PerfError, match=r"1\.1: .*no method `of-tomorrow`"):
        resolve([requirement("teddy", ">=1.1")], made)
    far = finder(second("1.1", method="perfusion", requires_perf="99"))
    with pytest.raises(PerfError, match="needs perf 99 or newer"):
        resolve([requirement("teddy")], far)


def test_a_release_of_a_later_format_is_no_candidate_and_hides_no_other() -> None:
    said = json.loads(second("1.1").model_dump_json(exclude_none=True)) | {"format": 3, "kind": "pack"}
    later = Release.model_validate_json(json.dumps(said))
    made = finder(release("teddy", "1.0"), later)
    assert resolve([requirement("teddy")], made)["teddy"].version == "1.0"
    with pytest.raises(PerfError, match=r"1\.1: not for this perf: it is told in format 3"):
        resolve([requirement("teddy", ">=1.1")], made)


def test_a_release_without_a_covariance_fits_any() -> None:
    plain = second("1.0", method="perfusion")
    assert resolve([requirement("teddy")], finder(plain))["teddy"].version == "1.0"


def locked(**changes: Any) -> LockedConcept:
    return concept("oak").model_copy(update={"method": "deep", "render": {"strength": 1}, **changes})


def test_a_lockfile_is_of_version_1_until_it_has_to_say_more() -> None:
    bear = concept("bear")
    bear = bear.model_copy(update={"render": {**bear.render, "residual": 0.7}})
    first = Lockfile(base=BASE, covariance=COVARIANCE, concepts=(bear,))
    assert dump_lockfile(first).split("\n")[2] == "version = 1"
    assert first.as_written().concepts == (concept("bear"),)
    second = first.model_copy(update={"concepts": (bear, locked())})
    text = dump_lockfile(second)
    assert text.split("\n")[2] == "version = 2"
    assert "render.residual = 0.7\n" in text
    assert 'method = "deep"\n' in text
    read = parse_lockfile(text, "lock")
    assert read == second.as_written()
    assert dump_lockfile(read) == text
    for needs in ({"architecture": "sdxl"}, {"prediction": "v_prediction"}):
        base = BASE.model_copy(update=needs)
        assert "version = 2" in dump_lockfile(first.model_copy(update={"base": base}))


def test_a_newer_revision_keeps_what_tables_say() -> None:
    lock = Lockfile(base=BASE, concepts=(locked(requires={"bear": ">=1"}),))
    text = dump_lockfile(lock).replace("revision = 0", "revision = 9")
    text = text.replace("[[concept]]", "[[concept]]\nx = 1")
    assert parse_lockfile(text, "lock").concepts == lock.concepts
