"""`key`: one's own signing key, and the publishers that this machine knows by theirs."""

from __future__ import annotations

from typing import Literal

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.target import find_target
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import canonical_name
from perfusion_registry.recipe.name import Name
from perfusion_registry.trust import KnownKeys, Pin, SigningKey, fingerprint, read_public_key, signing_key
from perfusion_registry.trust import new_key as write_key
from perfusion_registry.trust.key import key_path
from perfusion_registry.trust.known import keys_path


class KeyResult(Result):
    """`perf key new`, `perf key show`. source: where the secret key is."""

    schema_: Literal["perf.key/1"] = named("perf.key/1")
    public: str
    fingerprint: str
    source: str


class KnownKey(Pin):
    """A key that this machine knows."""

    fingerprint: str


class KeyListResult(Result):
    """`perf key list`."""

    schema_: Literal["perf.key-list/1"] = named("perf.key-list/1")
    path: str
    keys: tuple[KnownKey, ...]


class KeyTrustResult(Pin, Result):
    """`perf key trust`."""

    schema_: Literal["perf.key-trust/1"] = named("perf.key-trust/1")


class KeyForgetResult(Result):
    """`perf key forget`."""

    schema_: Literal["perf.key-forget/1"] = named("perf.key-forget/1")
    registry: str
    name: Name
    forgotten: bool


def new_key() -> KeyResult:
    """Make the signing key of this user of this machine."""
    return _told(write_key(key_path()))


def show_key() -> KeyResult:
    """The key that `publish` signs with."""
    return _told(signing_key())


def list_keys() -> KeyListResult:
    """The publishers that this machine knows by their keys."""
    pins = KnownKeys(keys_path()).pins()
    keys = tuple(KnownKey(**pin.model_dump(), fingerprint=fingerprint(pin.key)) for pin in pins)
    return KeyListResult(path=str(keys_path()), keys=keys)


def trust_key(
    workspace: Workspace, name: str, key: str, *, registry: str | None = None, since: str = "0"
) -> KeyTrustResult:
    """Trust a key for a name of a registry, whatever was known before.

    registry: as in `find_target`. since: lower versions may be unsigned. Raises PerfError where that is none.
    """
    from packaging.version import InvalidVersion, Version

    try:
        since = str(Version(since))
    except InvalidVersion as error:
        raise PerfError(f"`{since}` is not a version", where="--since", hint="write 1.2.0") from error
    target = find_target(workspace, registry)
    pin = Pin(registry=target.identity, name=canonical_name(name), key=read_public_key(key), since=since)
    workspace.keys.replace(pin)
    return KeyTrustResult(**pin.model_dump())


def forget_key(workspace: Workspace, name: str, *, registry: str | None = None) -> KeyForgetResult:
    """Forget the key of a name: the next signed release makes its key known.

    registry: as in `find_target`.
    """
    target, folded = find_target(workspace, registry), canonical_name(name)
    forgotten = workspace.keys.forget(target.identity, folded)
    return KeyForgetResult(registry=target.identity, name=folded, forgotten=forgotten)


def _told(key: SigningKey) -> KeyResult:
    return KeyResult(public=key.public, fingerprint=fingerprint(key.public), source=key.source)
