"""Checking who signed a release: trust on first use, per registry and name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from perfusion_registry.errors import PerfError
from perfusion_registry.registries.registry import Listing, Registry
from perfusion_registry.registries.release import Release
from perfusion_registry.trust.key import fingerprint
from perfusion_registry.trust.known import KnownKeys, Pin, registry_identity

_FORGEABLE = frozenset(
    [
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    ]
)
"""The points of small order, sign bit cleared: as public keys, anyone can sign for them."""


class UntrustedError(PerfError):
    """A release is not signed as it has to be."""


class SignaturePolicy:
    """Which releases may be used, by their signatures; `resolve.fetch` asks it for approval.

    root: what a registry in a relative folder is relative to. require: refuse what is not signed.
    """

    def __init__(self, known: KnownKeys, root: Path, *, require: bool = False) -> None:
        self._known = known
        self._root = root
        self.require = require
        self._pins = {(pin.registry, pin.name): pin for pin in known.pins()}
        self._new: dict[tuple[str, str], Pin] = {}

    def __call__(self, registry: Registry, release: Release) -> None:
        """Raise UntrustedError for a release that must not be used."""
        place = registry_identity(registry.url, self._root)
        known = self._pins.get((place, release.name))
        verdict = check_signature(Listing(release), place, [known] if known else [], require=self.require)
        if verdict.pin is not None:
            self._pins[place, release.name] = self._new[place, release.name] = verdict.pin

    def remember(self) -> None:
        """Make the keys known that were seen for the first time."""
        self._known.remember(self._new.values())


@dataclass(frozen=True)
class SignatureCheck:
    """A release that may be used. key: the public key that signed it, or None. pin: what to remember."""

    key: str | None
    pin: Pin | None = None


def check_signature(
    listing: Listing, registry: str, pins: Iterable[Pin], *, require: bool = False
) -> SignatureCheck:
    """Judge a release against the known keys; the verdict's `pin`, if any, is for `KnownKeys.remember`.

    registry: its `registry_identity`. require: refuse what is not signed. Raises UntrustedError for a
    signature that does not hold, for another key than the pinned one, and for an unsigned release of a name
    whose publisher signed that version or a lower one.
    """
    release = listing.release
    what = f"`{release.name}` {release.version}"
    known = next((pin for pin in pins if (pin.registry, pin.name) == (registry, release.name)), None)
    if release.signature is None:
        if known is not None and Version(release.version) >= Version(known.since):
            raise UntrustedError(
                f"{what} is not signed, but {known.since} was, by {fingerprint(known.key)}",
                where=registry,
                hint="ask its publisher; if it may go unsigned from now on, "
                f"`perf key forget {release.name} --registry {registry}`",
            )
        if require:
            raise UntrustedError(
                f"{what} is not signed, and signatures are required",
                where=registry,
                hint="ask its publisher for `perf publish --sign`, or leave out --require-signed",
            )
        return SignatureCheck(None)
    key = release.signature.key
    if not is_signature_valid(release):
        raise UntrustedError(
            f"the signature of {what} does not hold: its entry in the index was changed after signing, "
            "or signed with another key than it names",
            where=registry,
            hint="do not use it; tell its publisher and the registry's keeper",
        )
    if known is None:
        return SignatureCheck(key, Pin(registry=registry, name=release.name, key=key, since=release.version))
    if known.key != key:
        raise UntrustedError(
            f"{what} is signed with another key than before: "
            f"known {fingerprint(known.key)}, now {fingerprint(key)}",
            where=registry,
            hint="ask its publisher over another channel; if the new key is theirs, "
            f"`perf key trust {release.name} {key} --registry {registry}`",
        )
    if Version(release.version) < Version(known.since):
        return SignatureCheck(key, known.model_copy(update={"since": release.version}))
    return SignatureCheck(key)


def is_signature_valid(release: Release) -> bool:
    """Whether the release's signature is one of its own key over everything that the release says."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if release.signature is None:
        return False
    key = bytes.fromhex(release.signature.key)
    if (key[:-1] + bytes([key[-1] & 0x7F])).hex() in _FORGEABLE:
        return False
    try:
        public = Ed25519PublicKey.from_public_bytes(key)
        public.verify(bytes.fromhex(release.signature.signature), release.signed_bytes())
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True
