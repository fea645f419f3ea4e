"""What a newer perf adds to a registry's files: this one reads on, and keeps it, to the byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic_core import to_json

from perfusion_registry.registries import AlreadyPublishedError, RegistryError, Release
from perfusion_registry.registries.catalogue import read_catalogue
from perfusion_registry.registries.index import Index, Publish, read_index
from perfusion_registry.registries.known_index import reread
from perfusion_registry.registries.oci.manifest import OciManifest, read_release, release_manifest
from perfusion_registry.trust.check import is_signature_valid
from tests.registries.samples import folder_registry, release
from tests.registries.test_index import chained

TOMORROW = {"at": [1, 2.5e20, None, {"ü": None}]}


def second(version: str = "1.0.0", **more: Any) -> Release:
    fields = {"format": 2, "architecture": "stable-diffusion", "render": {"bias": 0.65}} | more
    gate = dict.fromkeys(("bias", "temperature", "key_lock"))
    values = release(version).model_dump(exclude_none=True)
    return Release(**{key: value for key, value in values.items() if key not in gate} | fields)


def grown(of: Release) -> dict[str, Any]:
    """The release as a perf of tomorrow writes it: with keys among those of today, at every depth, signed."""
    said: dict[str, Any] = {}
    for key, value in json.loads(of.model_dump_json(exclude_none=True)).items():
        said[f"before_{key}"] = TOMORROW
        said[key] = value
    said["requires"] = [{"name": "cat", "why": TOMORROW, "version": ">=1"}]
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    said["signature"] = {"by": "me", "key": public, "signature": key.sign(to_json(said)).hex()}
    return said


def line_of(said: dict[str, Any]) -> bytes:
    return chained({"event": "publish", "release": said, "seen": TOMORROW})


def test_keys_of_a_newer_perf_leave_an_index_readable_and_a_signature_valid(tmp_path: Path) -> None:
    said = grown(second())
    yank = {"event": "yank", "name": "teddy", "version": "1.0.0", "by": "me", "reason": "a wrong ear"}
    for data in (line_of(said), chained({"event": "publish", "release": said}, yank)):
        (listing,) = read_index(data, "teddy", "here").sorted()
        assert reread(data, "teddy", "here")[0] == listing
        assert is_signature_valid(listing.release)
        # In another registry, as `perf vendor` makes one, it is the same release.
        index = Index("teddy").appended(Publish(release=listing.release))
        assert json.loads(index.data)["release"] == said
        assert list(json.loads(index.data)["release"]) == list(said)
    assert listing.reason == "a wrong ear"
    registry = folder_registry(tmp_path / "r")
    assert registry.publish(listing.release, b"bear")
    assert not registry.publish(listing.release, b"bear")
    assert is_signature_valid(registry.versions("teddy")[0].release)


def test_a_newer_perfs_words_on_a_release_make_no_other_release_of_it(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    newer = Release.model_validate_json(
        json.dumps({"tags": ["toy"]} | json.loads(second().model_dump_json()))
    )
    assert newer.foreign == {"tags": ("toy",)}
    assert registry.publish(newer, b"bear")
    assert not registry.publish(second(), b"bear")
    other = newer.model_copy(update={"licence": "CC0"})
    with pytest.raises(AlreadyPublishedError, match="another licence"):
        registry.publish(other, b"bear")
    assert registry.publish(Release.model_validate_json(json.dumps(grown(second("1.2.0")))), b"bear")
    needs = second("1.2.0", requires=({"name": "cat", "version": ">=1"},))
    assert not registry.publish(needs, b"bear")  # whose requirement the newer perf gave a reason
    for others in ((), ({"name": "cat", "version": ">=2"},)):
        with pytest.raises(AlreadyPublishedError, match="another requires"):
            registry.publish(second("1.2.0", requires=others), b"bear")
    assert registry.publish(second("1.1.0"), b"bear")
    with pytest.raises(AlreadyPublishedError, match="another tags"):
        registry.publish(newer.model_copy(update={"version": "1.1.0"}), b"bear")


def test_what_is_made_here_has_known_keys_alone() -> None:
    with pytest.raises(ValueError, match="`licenze` is not a key"):
        second(licenze="CC0")
    with pytest.raises(RegistryError, match="malformed"):
        read_index(line_of(grown(release())), "teddy", "here")  # format 1 is what it is, for good


def test_a_marker_and_a_manifest_may_say_more(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    registry.publish(release(), b"bear")
    marker = tmp_path / "r" / "perf-registry.json"
    marker.write_text('{"format":1,"name":"r","contact":"me@example.org"}\n')
    assert len(folder_registry(tmp_path / "r").versions("teddy")) == 1

    body = json.loads(release_manifest(second()).data)
    body["layers"].append({"mediaType": "image/webp", "digest": f"sha256:{'7' * 64}", "size": 3})
    config = json.dumps(grown(second())).encode()
    read = read_release(OciManifest(json.dumps(body).encode()), config, "teddy", "1.0.0", "here")
    assert is_signature_valid(read)
    body["layers"].reverse()
    with pytest.raises(RegistryError, match="not the blobs"):
        read_release(OciManifest(json.dumps(body).encode()), config, "teddy", "1.0.0", "here")


def test_a_catalogue_keeps_what_a_newer_perf_says(tmp_path: Path) -> None:
    registry = folder_registry(tmp_path / "r")
    for name in ("cat", "teddy"):
        assert registry.publish(release(name=name), b"bear")
    place = tmp_path / "r" / "catalogue.jsonl"
    cat, teddy = place.read_bytes().splitlines()
    assert "format" not in json.loads(cat)
    newer = [
        b'{"name":"ant","format":2,"what":[1.50,"\xc3\xbc"]}',
        cat[:-1] + b', "tags" : ["toy", 1.50]}',
        teddy[:-1] + b',"format":1,"tags":["bear"]}',
    ]
    place.write_bytes(b"\n".join(newer) + b"\n")
    assert [entry.name for entry in folder_registry(tmp_path / "r").catalogue()] == ["cat", "teddy"]

    registry.publish(release(name="dog"), b"bear")
    lines = place.read_bytes().splitlines()
    assert lines[:2] == newer[:2]
    assert lines[3] == newer[2]
    # Its own line is told anew; what only the newer perf knows stays with the version that it was said of.
    registry.publish(release("0.9.0"), b"bear")
    told = json.loads(place.read_bytes().splitlines()[3])
    assert (told["version"], told["tags"]) == ("1.0.0", ["bear"])
    registry.publish(release("1.1.0", hashlib.sha256().digest()), hashlib.sha256().digest())
    assert json.loads(place.read_bytes().splitlines()[3]).get("tags") is None
    assert place.read_bytes().splitlines()[:2] == newer[:2]


@pytest.mark.parametrize(
    "line", [b'{"name":"cat","tags":NaN}', b"[]", b'{"format":true,"name":"cat"}', b"\xff"]
)
def test_what_is_no_line_of_any_format_goes_with_the_next_publication(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(RegistryError, match="catalogue is malformed"):
        read_catalogue(line + b"\n", "here")
    registry = folder_registry(tmp_path / "r")
    registry.publish(release(), b"bear")
    place = tmp_path / "r" / "catalogue.jsonl"
    whole = place.read_bytes()
    place.write_bytes(line + b"\n" + whole)
    registry.publish(release("0.9.0"), b"bear")
    assert place.read_bytes() == whole


def later(version: str) -> dict[str, Any]:
    """A release in a format of tomorrow, in which known keys mean other things."""
    said = {"before": TOMORROW} | json.loads(second(version).model_dump_json(exclude_none=True))
    said |= {"format": 3, "method": ["perfusion", "lora"], "render": [0.65, TOMORROW], "licence": None}
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    return said | {"signature": {"key": public, "signature": key.sign(to_json(said)).hex()}}


def test_what_a_newer_perf_publishes_hides_nothing_of_a_concept(tmp_path: Path) -> None:
    said = later("1.1.0")
    events = [
        {"event": "publish", "release": json.loads(release().model_dump_json(exclude_none=True))},
        {"event": "publish", "release": said},
        {"event": "retract", "name": "teddy", "version": "1.0.0", "since": TOMORROW},
        {"event": "yank", "name": "teddy", "version": "1.1.0", "reason": "a wrong ear"},
        {"event": "unyank", "name": "teddy", "version": "1.1.0"},
        {"event": "publish", "release": json.loads(second("1.2.0").model_dump_json(exclude_none=True))},
    ]
    data = chained(*events)
    index = read_index(data, "teddy", "here")
    assert [listing.version for listing in index.sorted()] == ["1.0.0", "1.1.0", "1.2.0"]
    assert tuple(reread(data, "teddy", "here")) == index.sorted()
    one = index.sorted()[1].release
    assert [listing.release.hindrance is None for listing in index.sorted()] == [True, False, True]
    assert one.hindrance == "it is told in format 3, and this perf reads up to 2"
    assert is_signature_valid(one)
    assert not is_signature_valid(one.model_copy(update={"signature": None}))
    again = Index("teddy").appended(Publish(release=one))
    assert json.loads(again.data)["release"] == said
    assert list(json.loads(again.data)["release"]) == list(said)

    registry = folder_registry(tmp_path / "r")
    assert registry.publish(release(), b"bear")
    place = tmp_path / "r" / "index" / "te" / "teddy.jsonl"
    place.write_bytes(data)
    assert [listing.version for listing in registry.versions("teddy")] == ["1.0.0", "1.1.0", "1.2.0"]
    with pytest.raises(AlreadyPublishedError):
        registry.publish(second("1.1.0"), b"bear")
    assert registry.publish(second("1.3.0"), b"bear")  # behind what it cannot read, to the byte
    assert place.read_bytes().startswith(data)
    assert registry.yank("teddy", "1.1.0")
    assert registry.versions("teddy")[1].yanked


def test_a_manifest_may_tell_of_a_release_in_a_later_format() -> None:
    body = release_manifest(second()).data
    read = read_release(OciManifest(body), json.dumps(later("1.0.0")).encode(), "teddy", "1.0.0", "here")
    assert read.hindrance is not None
    assert json.loads(read.model_dump_json()) == later("1.0.0") | {"signature": read.signature.model_dump()}  # type: ignore[union-attr]
