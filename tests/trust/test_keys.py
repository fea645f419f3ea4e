"""The signing key's file and the file of known keys, against damage, other readers and other processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.trust import (
    SIGNING_KEY_VARIABLE,
    KnownKeys,
    Pin,
    fingerprint,
    new_key,
    read_public_key,
    registry_identity,
    signing_key,
)
from perfusion_registry.trust.check import is_signature_valid
from tests.trust.samples import REGISTRY, key, release

ROOT = Path(__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(SIGNING_KEY_VARIABLE, raising=False)
    monkeypatch.setenv("PERF_DATA_DIR", str(tmp_path / "data"))


@posix
def test_a_new_key_is_its_owners_alone_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "data" / "signing-key.pem"
    made = new_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert signing_key().public == made.public
    assert is_signature_valid(signing_key().sign(release()))
    data = path.read_bytes()
    with pytest.raises(PerfError, match="a signing key already"):
        new_key(path)
    assert path.read_bytes() == data
    path.chmod(0o640)
    with pytest.raises(PerfError, match="can read the signing key") as caught:
        signing_key()
    assert caught.value.hint == f"chmod 600 {path}"
    assert "PRIVATE" not in repr(made) + str(made)


def test_a_key_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SIGNING_KEY_VARIABLE, "01" * 32)
    assert signing_key().public == key(1).public
    other = new_key(tmp_path / "elsewhere.pem")
    monkeypatch.setenv(SIGNING_KEY_VARIABLE, str(tmp_path / "elsewhere.pem"))
    assert signing_key().public == other.public


@posix
@pytest.mark.parametrize(
    "data", [b"", b"x" * 100, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_not_a_key_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(PerfError, match="no signing key") as caught:
        signing_key()
    assert caught.value.hint == "run `perf key new` to make one"
    path = tmp_path / "data" / "signing-key.pem"
    path.parent.mkdir()
    path.touch(0o600)
    path.write_bytes(data)
    with pytest.raises(PerfError, match="not a signing key that perf can read"):
        signing_key()


@posix
def test_a_key_of_openssl_is_a_key(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    path = tmp_path / "data" / "signing-key.pem"
    path.parent.mkdir()
    path.touch(0o600)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True)
    assert is_signature_valid(signing_key().sign(release()))
    path.unlink()
    path.touch(0o600)
    subprocess.run(["openssl", "genpkey", "-algorithm", "x25519", "-out", path], check=True)
    with pytest.raises(PerfError, match="not an ed25519 key"):
        signing_key()


def test_fingerprints_are_those_of_ssh_and_keys_are_typed_in_hex() -> None:
    assert fingerprint("00" * 32) == "SHA256:Zmh6rfhivXdsj8GLjp+OIAiXFIVu4jOzkCpZHQ1fKSU"
    assert read_public_key(f" {'AB' * 32}\n") == "ab" * 32
    for text in ("", "ab", "g" * 64, "\x1b[2J"):
        with pytest.raises(PerfError, match="not a public key"):
            read_public_key(text)


def pin(name: str = "teddy", number: int = 1, since: str = "1.0.0") -> Pin:
    return Pin(registry=REGISTRY, name=name, key=key(number).public, since=since)


def test_pins_are_kept_replaced_and_forgotten(tmp_path: Path) -> None:
    known = KnownKeys(tmp_path / "new" / "known_keys.toml")
    assert known.pins() == ()
    assert not known.path.parent.exists()
    known.remember([])
    assert not known.path.exists()
    strange = Pin(registry='a "b"\n\x1b[31m\\', name="cat", key="ab" * 32, since="0")
    known.remember([pin(), pin("teapot", 2), strange])
    assert known.pins() == tuple(
        sorted([pin(), pin("teapot", 2), strange], key=lambda p: (p.registry, p.name))
    )
    known.remember([pin(since="0.5")])
    known.remember([pin(since="3")])
    assert pin(since="0.5") in known.pins()
    with pytest.raises(PerfError, match="two keys at once"):
        known.remember([pin(number=2)])
    known.replace(pin(number=2))
    assert pin(number=2) in known.pins()
    assert known.forget(REGISTRY, "teddy")
    assert not known.forget(REGISTRY, "teddy")
    assert {one.name for one in known.pins()} == {"teapot", "cat"}


@pytest.mark.parametrize(
    "text", ["[[key]]\n", "key = 1", "nonsense", "\x00", '[[key]]\nkey = "x"\nname = "a"\n']
)
def test_a_damaged_file_of_known_keys_trusts_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "known_keys.toml"
    path.write_text(text)
    with pytest.raises(PerfError, match="file of known keys"):
        KnownKeys(path).pins()
    with pytest.raises(PerfError, match="file of known keys"):
        KnownKeys(path).remember([pin()])
    assert path.read_text() == text


def test_processes_that_learn_keys_at_once_lose_none(tmp_path: Path) -> None:
    text = (
        "import sys; from pathlib import Path; from perfusion_registry.trust import KnownKeys, Pin\n"
        "known = KnownKeys(Path(sys.argv[1]))\n"
        "for n in range(10):\n"
        "    known.remember([Pin(registry='r', name=f'{sys.argv[2]}-{n}', key='ab' * 32, since='1')])"
    )
    path = str(tmp_path / "known_keys.toml")
    writers = [subprocess.Popen([sys.executable, "-c", text, path, name], cwd=ROOT) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(KnownKeys(Path(path)).pins()) == 30


def test_a_registry_is_known_by_its_place(tmp_path: Path) -> None:
    assert registry_identity(" https://a.example/x/  https://b.example/x", tmp_path) == "https://a.example/x"
    assert registry_identity("finder", tmp_path) == str(tmp_path / "finder")
    assert registry_identity("../finder/", tmp_path / "p") == str(tmp_path / "finder")
    assert registry_identity(str(tmp_path / "finder"), Path("/")) == str(tmp_path / "finder")
