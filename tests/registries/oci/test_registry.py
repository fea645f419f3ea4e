"""Concepts in a real OCI registry: Debian's docker-registry, its files in a temporary folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfusion_registry.registries import AlreadyPublishedError, RegistryError
from perfusion_registry.registries.oci.manifest import CONCEPT_TYPE, MANIFEST_TYPE
from perfusion_registry.registries.oci.registry import OciRegistry
from perfusion_registry.registries.offline import OfflineRegistry
from tests.registries.oci.samples import docker_registry, needs_docker_registry, sample
from tests.registries.race import race

pytestmark = needs_docker_registry


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("docker-registry")) as address:
        yield address


@pytest.fixture
def url(address: str, request: pytest.FixtureRequest) -> str:
    """A namespace for each test."""
    return f"oci://{address}/studio/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"


def registry(url: str, cache: Path, *, settle: float = 0.5) -> OciRegistry:
    return OciRegistry(url, credentials=None, cache=cache, settle=settle)


def told(registry: OciRegistry) -> list[tuple[str, bool, str]]:
    return [(one.release.version, one.yanked, one.reason) for one in registry.versions("teddy")]


def fetched(url: str, path: str) -> bytes:
    request = urllib.request.Request(url.replace("oci://", "http://"), headers={"Accept": MANIFEST_TYPE})
    request.full_url = request.full_url.replace("/studio", "/v2/studio", 1) + path
    with urllib.request.urlopen(request) as answer:
        data: bytes = answer.read()
        return data


def test_a_release_is_published_found_fetched_yanked_and_shown_again(url: str, tmp_path: Path) -> None:
    studio = registry(url, tmp_path / "author")
    assert studio.versions("teddy") == ()
    assert studio.catalogue() == ()
    releases = {version: sample(version) for version in ("1.0.0", "1!2.0rc1+local.1")}
    for release, blob in releases.values():
        assert studio.publish(release, blob) is True
    assert studio.publish(*releases["1.0.0"]) is False
    assert studio.publish(*sample("1.0.0", name="teapot", supercategory="teapot")) is True

    reader = registry(url, tmp_path / "teammate")
    assert [one.release for one in reader.versions("teddy")] == [release for release, _ in releases.values()]
    for release, blob in releases.values():
        assert b"".join(reader.blob(release)) == blob
    assert [(one.name, one.version) for one in reader.catalogue()] == [
        ("teapot", "1.0.0"),
        ("teddy", "1!2.0rc1+local.1"),
    ]
    assert studio.yank("teddy", "1!2.0rc1+local.1", reason="a «wrong» ear") is True
    assert studio.yank("teddy", "1!2.0rc1+local.1") is False
    assert told(reader) == [("1.0.0", False, ""), ("1!2.0rc1+local.1", True, "a «wrong» ear")]
    assert [one.version for one in reader.catalogue()] == ["1.0.0", "1.0.0"]
    offline = OfflineRegistry(url, cache=tmp_path / "teammate")
    assert offline.versions("teddy") == reader.versions("teddy")
    assert offline.catalogue() == reader.catalogue()
    assert studio.unyank("teddy", "1!2.0rc1+local.1") is True
    assert studio.unyank("teddy", "1!2.0rc1+local.1") is False
    assert told(reader) == [("1.0.0", False, ""), ("1!2.0rc1+local.1", False, "")]
    with pytest.raises(RegistryError, match=r"was never published here; there are: 1\.0\.0"):
        studio.yank("teddy", "3.0.0")


def test_what_is_stored_is_an_artifact_that_other_tools_understand(url: str, tmp_path: Path) -> None:
    release, blob = sample()
    registry(url, tmp_path).publish(release, blob)
    manifest = json.loads(fetched(url, "/teddy/manifests/1.0.0"))
    assert manifest["artifactType"] == CONCEPT_TYPE
    assert manifest["annotations"] == {
        "org.opencontainers.image.title": "teddy",
        "org.opencontainers.image.version": "1.0.0",
        "org.opencontainers.image.licenses": "CC-BY-4.0",
        "org.opencontainers.image.description": "A bear with «one» ear",
    }
    (layer,) = manifest["layers"]
    assert layer["annotations"] == {"org.opencontainers.image.title": "teddy-1.0.0.safetensors"}
    assert fetched(url, f"/teddy/blobs/{layer['digest']}") == blob
    config = fetched(url, f"/teddy/blobs/{manifest['config']['digest']}")
    assert type(release).model_validate_json(config) == release


def test_a_published_version_never_changes_however_it_is_spelled(url: str, tmp_path: Path) -> None:
    studio = registry(url, tmp_path)
    first, blob = sample("1.0.0")
    studio.publish(first, blob)
    for version in ("1.0.0", "1.0", "1"):
        other, bytes_of_it = sample(version, b"other bytes")
        with pytest.raises(AlreadyPublishedError) as refused:
            studio.publish(other, bytes_of_it)
        assert first.sha256 in refused.value.what
        assert other.sha256 in refused.value.what
    assert [one.release for one in studio.versions("teddy")] == [first]


def test_a_tag_that_was_put_anew_or_taken_away_is_refused(
    tmp_path: Path, url: str, request: pytest.FixtureRequest
) -> None:
    studio, mirror = registry(url, tmp_path / "here"), registry(f"{url}/other", tmp_path / "there")
    studio.publish(*sample("1.0.0"))
    studio.versions("teddy")
    mirror.publish(*sample("1.0.0", b"swapped"))
    data = Path(str(request.getfixturevalue("tmp_path_factory").getbasetemp()))
    store = next(data.glob("docker-registry*/data/docker/registry/v2/repositories"))
    here = store / url.partition("/studio/")[2].join(("studio/", "")) / "teddy" / "_manifests"
    there = here.parents[1] / "other" / "teddy" / "_manifests"
    link = here / "tags" / "1.0.0" / "current" / "link"
    before = link.read_text()
    link.write_text((there / "tags" / "1.0.0" / "current" / "link").read_text())
    shutil.copytree(there / "revisions", here / "revisions", dirs_exist_ok=True)
    with pytest.raises(RegistryError, match=r"another teddy 1\.0\.0 than before") as refused:
        studio.versions("teddy")
    assert "delete what this machine remembers" in (refused.value.hint or "")
    shutil.rmtree(here / "tags" / "1.0.0")
    with pytest.raises(RegistryError, match=r"no longer has teddy 1\.0\.0"):
        studio.versions("teddy")
    link.parent.mkdir(parents=True)
    link.write_text(before)
    assert told(studio) == [("1.0.0", False, "")]


def test_eight_publishers_of_one_version_have_one_winner(url: str, tmp_path: Path) -> None:
    entries = [("1.0.0", f"bytes of {number}") for number in range(8)]
    results = race(url, tmp_path, entries)
    assert sorted(results) == ["lost True"] * 7 + ["won"]
    winner = sample("1.0.0", entries[results.index("won")][1].encode())[0]
    assert [one.release for one in registry(url, tmp_path).versions("teddy")] == [winner]


def test_publishers_of_the_very_same_release_have_one_winner_too(url: str, tmp_path: Path) -> None:
    assert sorted(race(url, tmp_path, [("1.0.0", "the same")] * 4)) == ["there"] * 3 + ["won"]
