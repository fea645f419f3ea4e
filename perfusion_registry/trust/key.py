"""The publisher's key: ed25519, in a file that only its owner can read.

signing-key.pem     PKCS #8, as `openssl genpkey -algorithm ed25519` writes it
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.cache_folder import expand_user
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.registries.release import Release, Signature
from perfusion_registry.trust.paths import data_dir

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNING_KEY_VARIABLE = "PERF_SIGNING_KEY"
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_LARGEST_FILE = 16 * 1024


@dataclass(frozen=True)
class SigningKey:
    """A private key. source: where it was found, in words."""

    _private: Ed25519PrivateKey = field(repr=False)
    source: str

    @property
    def public(self) -> str:
        """The public key in hex."""
        return self._private.public_key().public_bytes_raw().hex()

    def sign(self, release: Release) -> Release:
        """The release with its signature; the same release and key always give the same one."""
        signature = self._private.sign(release.signed_bytes()).hex()
        return release.model_copy(update={"signature": Signature(key=self.public, signature=signature)})


def key_path() -> Path:
    """Where this machine's signing key is, or would be."""
    return data_dir() / "signing-key.pem"


def new_key(path: Path) -> SigningKey:
    """Make a key and keep it at `path`; raises PerfError where there is one, which is never replaced."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = Ed25519PrivateKey.generate()
    data = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    make_folder(path.parent)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".signing-key.", dir=path.parent)  # made as 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, never over another key
        finally:
            os.unlink(temporary)
    except FileExistsError as error:
        raise PerfError(
            "there is a signing key already; a new one would be a stranger to everybody who knows the old",
            where=str(path),
            hint="run `perf key show` to see it, or move the file away first",
        ) from error
    except OSError as error:
        raise write_error(error, path) from error
    return SigningKey(private, str(path))


def signing_key() -> SigningKey:
    """The key to sign with: `PERF_SIGNING_KEY` (64 hex digits, or a file), else this machine's own.

    Raises PerfError where there is none, or others could read it.
    """
    chosen = os.environ.get(SIGNING_KEY_VARIABLE, "").strip()
    if _HEX.match(chosen.lower()):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(chosen))
        return SigningKey(private, f"the environment ({SIGNING_KEY_VARIABLE})")
    path = expand_user(chosen) if chosen else key_path()
    return SigningKey(_read(path), str(path))


def fingerprint(public: str) -> str:
    """A public key (hex) as people compare it: `SHA256:` and 43 characters, as ssh shows keys."""
    digest = hashlib.sha256(bytes.fromhex(public)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def read_public_key(text: str) -> str:
    """A public key that a person typed, in hex; raises PerfError when it is not one."""
    key = text.strip().lower()
    if not _HEX.match(key):
        raise PerfError(
            "this is not a public key",
            where=text[:80],
            hint="give the 64 hex digits that `perf key show` prints",
        )
    return key


def _read(path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LARGEST_FILE)
    except FileNotFoundError as error:
        raise PerfError(
            "there is no signing key", where=str(path), hint="run `perf key new` to make one"
        ) from error
    except OSError as error:
        raise PerfError(
            f"the signing key cannot be read: {error.strerror or error}", where=str(path)
        ) from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise PerfError(
            "others on this machine can read the signing key", where=str(path), hint=f"chmod 600 {path}"
        )
    try:
        private = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PerfError(
            "this is not a signing key that perf can read: an ed25519 key in PEM, without a password",
            where=str(path),
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise PerfError("the signing key is not an ed25519 key", where=str(path), hint="run `perf key new`")
    return private
