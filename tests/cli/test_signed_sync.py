"""Signatures at the door: what `perf sync` lets in, with and without --require-signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.trust import SIGNING_KEY_VARIABLE, KnownKeys
from perfusion_registry.trust.known import keys_path
from tests.cli.running import Perf, release
from tests.trust.samples import key


def test_a_publisher_is_known_by_the_first_signature(
    perf: Perf, team: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = ("sync", "--project", "team")
    release(perf, project, "1.0.0")
    monkeypatch.setenv("PERF_CACHE_DIR", str(project / "theirs"))
    assert perf("lock", "--project", "team").code == 0
    refused = perf(*sync, "--require-signed")
    assert refused.code == 2
    assert "`bear` 1.0.0 is not signed, and signatures are required" in refused.err
    assert not list((project / "theirs").rglob("*.safetensors"))
    assert perf(*sync).code == 0
    assert not keys_path().exists()
    # What is in the store already is asked for its signature just the same.
    monkeypatch.setenv("PERF_REQUIRE_SIGNED", "1")
    assert perf(*sync).code == 2
    monkeypatch.delenv("PERF_REQUIRE_SIGNED")

    monkeypatch.setenv(SIGNING_KEY_VARIABLE, "01" * 32)
    monkeypatch.setenv("PERF_CACHE_DIR", str(project / "store"))
    release(perf, project, "1.1.0", "--sign")
    monkeypatch.setenv("PERF_CACHE_DIR", str(project / "theirs"))
    assert perf("lock", "--project", "team", "--upgrade").code == 0
    assert perf(*sync, "--require-signed").code == 0
    (pin,) = KnownKeys(keys_path()).pins()
    assert (pin.registry, pin.name, pin.key, pin.since) == (
        str(project / "gallery"),
        "bear",
        key(1).public,
        "1.1.0",
    )

    # Somebody else signs the next version, or nobody does: neither comes in.
    monkeypatch.setenv(SIGNING_KEY_VARIABLE, "02" * 32)
    for version, options, told in (
        ("1.2.0", ("--sign",), "signed with another key than before"),
        ("1.3.0", (), "is not signed, but 1.1.0 was"),
    ):
        monkeypatch.setenv("PERF_CACHE_DIR", str(project / "store"))
        release(perf, project, version, *options)
        monkeypatch.setenv("PERF_CACHE_DIR", str(project / "theirs"))
        assert perf("lock", "--project", "team", "--upgrade").code == 0
        refused = perf(*sync)
        assert refused.code == 2
        assert told in refused.err
    # The way out that the error names.
    trust = ("key", "trust", "bear", key(2).public, "--registry", str(project / "gallery"), "--since", "9")
    assert perf(*trust).code == 0
    assert perf(*sync).code == 0
