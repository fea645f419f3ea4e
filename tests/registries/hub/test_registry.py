"""A registry on the Hugging Face Hub, against a local server that speaks its API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perfusion_registry.registries import AlreadyPublishedError, Registry, RegistryError
from perfusion_registry.registries.backoff import Backoff
from perfusion_registry.registries.credentials import Credentials
from perfusion_registry.registries.hub.address import parse_hub_address
from perfusion_registry.registries.hub.registry import HubRegistry
from perfusion_registry.registries.offline import OfflineRegistry
from tests.registries.hub.server import TOKEN, Hub, serve
from tests.registries.oci.samples import sample
from tests.registries.race import race

URL = "hf://studio/concepts"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as hub:
        _go_to(hub, monkeypatch)
        yield hub


def _go_to(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process reach `hub` as the Hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)  # for what the client might do of itself
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)


def registry(cache: Path, *, url: str = URL, token: str | None = TOKEN) -> HubRegistry:
    return HubRegistry(url, token=token, cache=cache)


def told(registry: Registry, name: str = "teddy") -> list[tuple[str, bool, str]]:
    return [(one.release.version, one.yanked, one.reason) for one in registry.versions(name)]


def test_a_release_is_published_in_one_commit_read_yanked_and_shown_again(hub: Hub, tmp_path: Path) -> None:
    studio = registry(tmp_path / "author")
    release, blob = sample("1.0.0")
    assert studio.publish(release, blob) is True
    assert hub.messages == ["initial commit", "Publish teddy 1.0.0"]
    written = set(hub.files()) - {".gitattributes"}
    assert written == {
        "perf-registry.json",
        "catalogue.jsonl",
        "index/te/teddy.jsonl",
        f"blobs/{release.sha256[:2]}/{release.sha256}",
    }
    assert studio.publish(release, blob) is False
    assert studio.publish(*sample("1.1.0")) is True

    reader = registry(tmp_path / "teammate", token=None)
    assert told(reader) == [("1.0.0", False, ""), ("1.1.0", False, "")]
    assert reader.versions("teddy")[0].release == release
    assert b"".join(reader.blob(release)) == blob
    assert reader.versions("teapot") == ()
    assert [entry.version for entry in reader.catalogue()] == ["1.1.0"]

    assert studio.yank("teddy", "1.1.0", reason="a wrong ear") is True
    assert studio.yank("teddy", "1.1.0") is False
    assert told(reader) == [("1.0.0", False, ""), ("1.1.0", True, "a wrong ear")]
    assert OfflineRegistry(URL, cache=tmp_path / "teammate").versions("teddy") == reader.versions("teddy")
    assert [entry.version for entry in reader.catalogue()] == ["1.0.0"]
    assert studio.unyank("teddy", "1.1.0") is True
    assert studio.unyank("teddy", "1.1.0") is False
    assert len(hub.messages) == 5
    assert not [path for _, path, _ in hub.asked if "agent" in path]  # the client keeps to its work


def test_a_published_version_never_changes(hub: Hub, tmp_path: Path) -> None:
    studio = registry(tmp_path)
    first, blob = sample("1.0.0")
    studio.publish(first, blob)
    other, bytes_of_it = sample("1.0", b"other bytes")
    with pytest.raises(AlreadyPublishedError) as refused:
        studio.publish(other, bytes_of_it)
    assert first.sha256 in refused.value.what
    assert other.sha256 in refused.value.what
    with pytest.raises(RegistryError, match="not those of its release"):
        studio.publish(sample("2.0.0")[0], b"not it")
    assert len(hub.messages) == 2


def test_large_files_go_by_lfs_and_come_back_from_another_host_that_never_sees_the_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serve(lfs=("blobs/",), private=True) as hub:
        _go_to(hub, monkeypatch)
        studio = registry(tmp_path)
        release, blob = sample()
        assert studio.publish(release, blob) is True
        assert hub.large == {release.sha256: blob}
        assert b"".join(studio.blob(release)) == blob
        seen = {(host.partition("/")[0], given) for _, host, given in hub.asked if "/lfs/" in host}
        assert ("localhost", None) in seen
        assert not [given for host, given in seen if host == "localhost" and given is not None]


def test_a_branch_of_a_dataset_is_a_registry_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serve(repo="datasets/studio/concepts") as hub:
        _go_to(hub, monkeypatch)
        hub.add("drafts/one", {}, "branch")
        drafts = registry(tmp_path, url="hf://datasets/studio/concepts@drafts/one")
        assert drafts.publish(*sample()) is True
        assert told(drafts) == [("1.0.0", False, "")]
        assert "index/te/teddy.jsonl" not in hub.files("main")
        pinned = f"hf://datasets/studio/concepts@{hub.branches['drafts/one']}"
        assert told(registry(tmp_path, url=pinned)) == told(drafts)
        with pytest.raises(RegistryError, match="a commit cannot be changed"):
            registry(tmp_path, url=pinned).publish(*sample("2.0.0"))
        with pytest.raises(RegistryError, match="no branch `other`"):
            registry(tmp_path, url="hf://datasets/studio/concepts@other").publish(*sample("2.0.0"))


def test_a_commit_whose_answer_was_lost_is_not_made_again(hub: Hub, tmp_path: Path) -> None:
    hub.losing = 1
    studio = registry(tmp_path)
    assert studio.publish(*sample()) is True
    assert hub.messages == ["initial commit", "Publish teddy 1.0.0"]
    assert told(studio) == [("1.0.0", False, "")]


def test_eight_publishers_of_one_version_have_one_winner(hub: Hub, tmp_path: Path) -> None:
    entries = [("1.0.0", f"bytes of {number}") for number in range(8)]
    results = race(URL, tmp_path, entries, PERF_REGISTRY_STUDIO_TOKEN=TOKEN)
    assert sorted(results) == ["lost True"] * 7 + ["won"]
    winner = sample("1.0.0", entries[results.index("won")][1].encode())[0]
    assert [one.release for one in registry(tmp_path).versions("teddy")] == [winner]
    assert hub.messages == ["initial commit", "Publish teddy 1.0.0"]


def test_publishers_of_different_versions_all_come_through(hub: Hub, tmp_path: Path) -> None:
    entries = [(f"1.{number}", "same bytes") for number in range(4)]
    assert race(URL, tmp_path, entries, HF_TOKEN=TOKEN) == ["won"] * 4
    assert [version for version, _, _ in told(registry(tmp_path))] == [f"1.{number}" for number in range(4)]


def test_what_the_hub_leaves_out_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serve(ignored=("blobs/",)) as hub:
        _go_to(hub, monkeypatch)
        with pytest.raises(RegistryError, match="did not keep blobs/") as noticed:
            registry(tmp_path).publish(*sample())
        assert ".gitignore" in (noticed.value.hint or "")


def test_a_rewritten_branch_is_refused(hub: Hub, tmp_path: Path) -> None:
    studio = registry(tmp_path)
    studio.publish(*sample("1.0.0"))
    before = hub.branches["main"]
    studio.publish(*sample("1.1.0"))
    studio.versions("teddy")
    hub.branches["main"] = before
    with pytest.raises(RegistryError, match="older than the one it gave before"):
        studio.versions("teddy")
    with pytest.raises(RegistryError, match="older than the one it gave before"):
        studio.publish(*sample("1.2.0"))
    assert hub.branches["main"] == before


def test_what_cannot_be_done_is_told_with_the_next_step(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RegistryError, match="needs a token") as refused:
        registry(tmp_path, token=None).publish(*sample())
    assert "HF_TOKEN" in (refused.value.hint or "")
    with pytest.raises(RegistryError, match=r"does not allow us to make a commit|no access to it"):
        registry(tmp_path, token="hf_reader").publish(*sample())
    with pytest.raises(RegistryError, match="no access to it"):
        registry(tmp_path, url="hf://studio/elsewhere").publish(*sample())
    with pytest.raises(RegistryError, match="no registry here"):
        registry(tmp_path, url="hf://studio/elsewhere").versions("teddy")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert registry(tmp_path, token=None).publish(*sample()) is True
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.asked)
    for work in (
        lambda: registry(tmp_path).versions("teddy"),
        lambda: registry(tmp_path).yank("teddy", "1.0.0"),
    ):
        with pytest.raises(RegistryError, match="HF_HUB_OFFLINE"):
            work()
    assert len(hub.asked) == asked


@pytest.mark.parametrize("body", [b"", b"[]", b'{"sha": 7, "files": [{}]}', b"[" * 50_000])
@pytest.mark.parametrize("place", ["/revision/", "/preupload/", "/commit/", "/resolve/"])
def test_nonsense_from_the_hub_is_an_error_and_nothing_is_believed(
    place: str, body: bytes, hub: Hub, tmp_path: Path
) -> None:
    hub.answers[place] = (200, body)
    with pytest.raises(RegistryError):
        HubRegistry(URL, token=TOKEN, cache=tmp_path, backoff=Backoff(0.01, 0.01)).publish(*sample())
    assert len(hub.messages) == 1
    assert sum(path.endswith("/commit/main") for _, path, _ in hub.asked) <= 4


@pytest.mark.parametrize(
    "url",
    [
        "hf://",
        "hf://one",
        "hf://a/b/c",
        "hf://../b",
        "hf://a/..",
        "hf://a/b@../x",
        "hf://spaces/a/b",
        "hf://a/b?token=x",
        "hf://a b/c",
        "hf://а/b",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(RegistryError, match="hf://owner/name"):
        parse_hub_address(url)


def test_neither_credentials_in_addresses_nor_tokens_over_http_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError) as refused:
        parse_hub_address("hf://me:secret@owner/name")
    assert "secret" not in str(refused.value)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example")
    with pytest.raises(RegistryError, match="in the open"):
        registry(tmp_path)
    assert "secret" not in repr(Credentials(token="secret"))
