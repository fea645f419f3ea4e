"""The index: every wrong byte is caught, and nothing in it is believed."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.registries import RegistryError
from perfusion_registry.registries.index import (
    LARGEST_INDEX,
    LARGEST_LINE,
    Index,
    Publish,
    Unyank,
    Yank,
    index_key,
    read_index,
)
from perfusion_registry.registries.known_index import reread
from tests.registries.samples import release


def sample() -> Index:
    index = Index("teddy").appended(Publish(release=release("1.0.0")))
    index = index.appended(Publish(release=release("1.10.0", b"cat")))
    index = index.appended(Publish(release=release("1.9.0", b"pot", kind="concept")))
    index = index.appended(Yank(name="teddy", version="1.9.0", reason="a wrong ear"))
    index = index.appended(Yank(name="teddy", version="1.10.0"))
    return index.appended(Unyank(name="teddy", version="1.10.0"))


def chained(*events: dict[str, Any] | str) -> bytes:
    """A log with whatever lines, each with its right chain: what a hostile keeper can write."""
    data, chain = b"", ""
    for event in events:
        body = (event if isinstance(event, str) else json.dumps(event, separators=(",", ":"))).encode()
        chain = hashlib.sha256(chain.encode() + body).hexdigest()
        data += body[:-1] + f',"chain":"{chain}"}}\n'.encode()
    return data


def published(**changes: Any) -> dict[str, Any]:
    fields = release().model_dump(mode="json", exclude_none=True) | changes
    return {"event": "publish", "release": fields}


def test_what_is_appended_is_read_again_by_version() -> None:
    index = read_index(sample().data, "teddy", "here")
    assert index == sample()
    assert [(one.release.version, one.yanked, one.reason) for one in index.sorted()] == [
        ("1.0.0", False, ""),
        ("1.9.0", True, "a wrong ear"),
        ("1.10.0", False, ""),
    ]
    assert index.find("1.0") == index.find("1.0.0") is not None
    assert index.find("2.0") is None


def test_rereading_gives_what_reading_gave_without_looking_at_every_release() -> None:
    plain = [published(version=version) for version in ("1.10.0", "2", "1.9.1", "0.1")]
    odd = [published(version=version) for version in ("3.0rc1", "1!1.0", "1.0.post2", "v4.0", "1.01")]
    spaced = json.dumps(published(version="5.0"))
    renamed = published(name="ted_dy", version="1.0")
    for name, data in (
        ("teddy", b""),
        ("teddy", sample().data),
        ("teddy", chained(*plain)),
        ("teddy", chained(*plain, *odd)),
        ("teddy", chained(*plain, spaced, {"event": "yank", "name": "teddy", "version": "2.0"})),
        ("ted-dy", chained(renamed)),
    ):
        listings = reread(data, name, "here")
        assert tuple(listings) == read_index(data, name, "here").sorted()
        assert [one.version for one in listings] == [one.release.version for one in listings]
    # Rubbish behind the version is found when the release is looked at, and not before.
    lines = chained(*plain).splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"sha256":"', b'"sha256":"x')
    listings = reread(b"".join(lines), "teddy", "here")
    assert [one.version for one in listings] == ["0.1", "1.9.1", "1.10.0", "2"]
    assert listings[3].release.version == "2"
    with pytest.raises(RegistryError, match=r"`publish\.release\.sha256`: String should match"):
        _ = listings[2].release


def test_a_line_that_contradicts_itself_is_not_believed_when_it_is_read_again() -> None:
    said = json.dumps(published(version="1.0"), separators=(",", ":"))
    (listing,) = reread(chained(said[:-2] + ',"version":"2.0"}}'), "teddy", "here")
    with pytest.raises(RegistryError, match=r"contradicts itself about teddy 1\.0"):
        _ = listing.release


def test_appending_only_ever_appends() -> None:
    index = sample()
    assert index.appended(Publish(release=release("2.0.0"))).data.startswith(index.data)


def test_every_flipped_bit_of_an_index_is_caught() -> None:
    data = sample().data
    for place in range(len(data)):
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << (place % 8)
        with pytest.raises(RegistryError):
            read_index(bytes(spoilt), "teddy", "here")


def test_an_index_cut_anywhere_but_between_lines_is_caught() -> None:
    data = sample().data
    whole = {0, *(place + 1 for place, byte in enumerate(data) if byte == 10)}
    for size in set(range(len(data))) - whole:
        with pytest.raises(RegistryError):
            read_index(data[:size], "teddy", "here")


def test_lines_that_are_lost_moved_or_put_in_are_caught() -> None:
    lines = sample().data.splitlines(keepends=True)
    for place in range(len(lines) - 1):
        for order in (
            lines[:place] + lines[place + 1 :],
            [*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]],
            [*lines[: place + 1], *lines[place:]],
            [*lines[:place], b"\n", *lines[place:]],
        ):
            with pytest.raises(RegistryError):
                read_index(b"".join(order), "teddy", "here")


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([published(), published(sha256="0" * 64)], "two releases of teddy 1.0.0"),
        ([published(), published(version="1.0")], "two releases"),
        ([published(name="cat")], "is that of `cat`, not of `teddy`"),
        ([published(), {"event": "yank", "name": "cat", "version": "1.0.0"}], "is that of `cat`"),
        ([{"event": "yank", "name": "teddy", "version": "1.0.0"}], "never published"),
        ([published(name="Teddy")], "malformed"),
        ([published(name="teddу")], "malformed"),  # a Cyrillic letter at the end
        ([published(name="../../teddy")], "malformed"),
        ([published(name="/etc/passwd")], "malformed"),
        ([published(sha256="../../../etc/passwd")], "malformed"),
        ([published(sha256="A" * 64)], "malformed"),
        ([published(size=10**12)], "malformed"),
        ([published(size=-1)], "malformed"),
        ([published(size=0)], "malformed"),
        ([published(size="4")], "malformed"),
        ([published(bias="high")], "malformed"),
        ([published(description=["a", "b"])], "malformed"),
        ([published(surprise=1)], "malformed"),
        ([published(format=3, surprise=1, sha256="x")], "malformed"),
        ([published(format=3, version="one")], "malformed"),
        ([published(format=0)], "malformed"),
        ([published(), published(format=3)], "two releases"),
        ([{"event": 3, "name": "teddy", "version": "1.0.0"}], "malformed"),
        (['{"event":"publish","release":{"bias":NaN}}'], "malformed"),
        (['{"event":"publish","release":' + "[" * 20_000 + "]" * 20_000 + "}"], "malformed"),
        (['{"event":"publish","release":{"size":' + "9" * 60_000 + "}}"], "malformed"),
        (['{"event":"yank","name":"teddy","version":"' + "1." * 30_000 + '1"}'], "a version of"),
        (['{"event":"yank","name":"\\ud800","version":"1"}'], "malformed"),
        (['{"event":"publish","release":{"name":"' + "x" * LARGEST_LINE + '"}}'], "more than"),
        (["[]"], "damaged"),
        (["{}"], "malformed"),
    ],
)
def test_what_a_hostile_keeper_can_write_is_refused_in_a_short_sentence(events: list[Any], said: str) -> None:
    begun = time.monotonic()
    with pytest.raises(RegistryError, match="index") as caught:
        read_index(chained(*events), "teddy", "here")
    assert said in caught.value.what
    assert len(caught.value.what) < 400
    assert caught.value.where is not None
    assert "line" in caught.value.where
    assert time.monotonic() - begun < 5


def test_texts_with_escapes_and_markup_are_kept_as_they_are_and_harm_nothing() -> None:
    text = "\x1b]0;owned\x07 [bold red]not markup[/] ‮ reversed \x9b31m \\ud800 </script>"
    index = Index("teddy").appended(Publish(release=release(description=text, licence=text)))
    assert index.data.count(b"\n") == 1
    assert b"\x1b" not in index.data
    assert read_index(index.data, "teddy", "here").listings[0].release.description == text


def test_sizes_are_bounded() -> None:
    with pytest.raises(RegistryError, match="larger than"):
        read_index(b"x" * (LARGEST_INDEX + 1), "teddy", "here")
    with pytest.raises(RegistryError, match="description of itself"):
        Index("teddy").appended(Publish(release=release(authors=("a" * 4000,) * 20)))


@pytest.mark.parametrize(
    "name",
    [
        "Teddy",
        "TEDDY",
        "teddy ",
        "../teddy",
        "/teddy",
        "te/ddy",
        "teddу",
        "ｔeddy",
        "con",
        "teddy\n",
        "",
        ".",
    ],
)
def test_what_is_no_name_makes_no_path(name: str) -> None:
    with pytest.raises(PerfError):
        index_key(name)


def test_names_are_spread_over_folders() -> None:
    assert index_key("teddy") == "index/te/teddy.jsonl"
    assert index_key("x") == "index/x/x.jsonl"
