"""Credentials: where they come from, where they go, and where they never show."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.registries import RegistryError
from perfusion_registry.registries.credentials import (
    Credentials,
    credentials_for,
    is_loopback,
    mirror_credentials,
    refuse_credentials,
    variable,
)

HTTPS = "https://concepts.example/studio"


@pytest.fixture(autouse=True)
def _no_netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def test_the_environment_names_a_registrys_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    assert credentials_for("my-studio", HTTPS) is None
    monkeypatch.setenv("PERF_REGISTRY_MY_STUDIO_TOKEN", "t0ken")
    found = credentials_for("my-studio", HTTPS)
    assert found == Credentials(token="t0ken")
    assert found is not None
    assert found.authorization() == "Bearer t0ken"
    assert credentials_for("other", HTTPS) is None
    monkeypatch.delenv("PERF_REGISTRY_MY_STUDIO_TOKEN")
    monkeypatch.setenv("PERF_REGISTRY_MY_STUDIO_USERNAME", "ann")
    with pytest.raises(RegistryError) as caught:
        credentials_for("my-studio", HTTPS)
    assert "PERF_REGISTRY_MY_STUDIO_PASSWORD" in (caught.value.hint or "")
    monkeypatch.setenv("PERF_REGISTRY_MY_STUDIO_PASSWORD", "påss:word")
    found = credentials_for("my-studio", HTTPS)
    assert found is not None
    assert found.authorization() == "Basic YW5uOnDDpXNzOndvcmQ="
    monkeypatch.setenv("PERF_REGISTRY_MY_STUDIO_TOKEN", "t0ken")
    with pytest.raises(RegistryError, match="both"):
        credentials_for("my-studio", HTTPS)


def test_netrc_is_asked_by_host_and_its_default_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine concepts.example login ann password s3cret\ndefault login x password y\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    for found in (credentials_for("studio", HTTPS), mirror_credentials(HTTPS)):
        assert found is not None
        assert (found.username, found.password) == ("ann", "s3cret")
        assert str(file) in found.source
    assert credentials_for("studio", "https://other.example") is None
    assert credentials_for("studio", "http://concepts.example/studio") is None
    monkeypatch.setenv(variable("studio", "TOKEN"), "t0ken")
    assert credentials_for("studio", HTTPS) == Credentials(token="t0ken")
    assert mirror_credentials("https://other.example") is None


def test_a_netrc_that_cannot_be_read_is_an_error_without_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "netrc"
    for broken in (b"machine concepts.example login ann s3cret\n", b"s3cret", b"machine \xff\xfe s3cret"):
        file.write_bytes(broken)
        monkeypatch.setenv("NETRC", str(file))
        with pytest.raises(RegistryError, match="netrc cannot be") as caught:
            credentials_for("studio", HTTPS)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert "s3cret" not in str(caught.value)
        assert str(file) in (caught.value.where or "")


def test_credentials_do_not_travel_in_the_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable("studio", "TOKEN"), "t0ken")
    with pytest.raises(RegistryError, match="in the open") as caught:
        credentials_for("studio", "http://concepts.example")
    assert "t0ken" not in str(caught.value)
    for here in ("http://127.0.0.1:80/x", "http://localhost/x", "http://[::1]:80/x", HTTPS, "oci://h/x"):
        assert credentials_for("studio", here) is not None


@pytest.mark.parametrize("host", ["localhost.example", "127.0.0.1.example", "10.0.0.1", "", None, "0x7f.1"])
def test_other_machines_are_not_this_one(host: str | None) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("secret", ["t0ken\n", "t0\r\nX: y", "t0 ken", "t0ken\x00", "tøken"])
def test_what_cannot_be_sent_is_refused_unseen(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    name = variable("studio", "TOKEN")
    if "\x00" in secret:
        monkeypatch.setattr("os.environ", {name: secret})
    else:
        monkeypatch.setenv(name, secret)
    with pytest.raises(RegistryError, match="cannot be sent") as caught:
        credentials_for("studio", HTTPS)
    assert secret not in str(caught.value)


def test_secrets_do_not_show() -> None:
    shown = repr(Credentials(token="s3cret")) + repr(Credentials(username="ann", password="s3cret"))
    assert "s3cret" not in shown
    assert "ann" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "https://ann:s3cret@concepts.example/studio",
        "https://s3cret@concepts.example",
        "oci://ann:s3cret@h/x",
        "s3://s3cret:x@bucket",
        "HTTPS://a@b:s3cret@h/",
        "http://ann:s3cret@[::1",
    ],
)
def test_addresses_with_credentials_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(RegistryError, match="has credentials in it") as caught:
        refuse_credentials(url)
    assert "s3cret" not in str(caught.value)
    assert "PERF_REGISTRY_" in (caught.value.hint or "")


@pytest.mark.parametrize("url", ["https://h/a@b", "https://h/?x=a@b", "folder@2", "../a@b", "file:///a@b"])
def test_other_addresses_are_not(url: str) -> None:
    refuse_credentials(url)
