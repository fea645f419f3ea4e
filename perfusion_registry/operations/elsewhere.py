"""A lockfile from elsewhere, a file or an address: its bytes, and its registries as seen from here."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urljoin

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.workspace import Workspace, addresses
from perfusion_registry.recipe import Lockfile
from perfusion_registry.recipe.document import LARGEST_FILE
from perfusion_registry.recipe.lockfile import REGISTRY
from perfusion_registry.recipe.lockfile_text import parse_lockfile
from perfusion_registry.registries.registry import Registry
from perfusion_registry.resolve.sources import Sources

_NAME_ONE = "name a perfusion.lock, by its file or its address"


def is_remote(source: str) -> bool:
    """Whether a lockfile's source is on the network."""
    return source.startswith(("http://", "https://"))


def read_lockfile(source: str, *, offline: bool) -> tuple[Lockfile, bytes]:
    """A lockfile from a file or over HTTP, and its bytes."""
    data = _bytes(source, offline=offline)
    try:
        return parse_lockfile(data.decode(), source), data
    except UnicodeDecodeError as error:
        raise PerfError("the lockfile is not UTF-8 text", where=source, hint=_NAME_ONE) from error


def folder_of(source: str) -> Path:
    """The folder that a lockfile from elsewhere lies in; the working directory for one from the network."""
    return Path() if is_remote(source) else Path(source).absolute().parent


def _bytes(source: str, *, offline: bool) -> bytes:
    if not is_remote(source):
        try:
            path = Path(source)
            if path.stat().st_size > LARGEST_FILE:
                raise PerfError(f"the lockfile is larger than {LARGEST_FILE // 2**20} MB", where=source)
            return path.read_bytes()
        except OSError as error:
            what = f"the lockfile cannot be read: {error.strerror or error}"
            raise PerfError(what, where=source, hint=_NAME_ONE) from error
    if offline:
        raise PerfError("the lockfile is on the network, and perf is working offline", where=source)
    from perfusion_registry.registries.bucket import StoredObject
    from perfusion_registry.registries.credentials import credentials_for
    from perfusion_registry.registries.http import HttpBucket

    folder, _, name = source.rpartition("/")
    answer = HttpBucket(folder, {folder: credentials_for("lockfile", folder)}).get(name, limit=LARGEST_FILE)
    if not isinstance(answer, StoredObject):
        raise PerfError("there is no lockfile at this address", where=source)
    return answer.data


def registries_beside(workspace: Workspace, source: str, lockfile: Lockfile) -> Sources:
    """The registries of a lockfile from elsewhere; a relative one lies beside it."""
    named = addresses(lockfile)
    if not is_remote(source):
        return workspace.registries_at(folder_of(source), named)
    remote = workspace.registries_at(Path(), {})

    def opened(place: str) -> Registry:
        if "://" in place and not place.startswith("file:"):
            return remote.registry(place)
        if place.startswith(("/", "~", "file:")) or Path(place).is_absolute():
            raise PerfError(
                "a lockfile from the network names a folder of this machine as a registry",
                where=f"{source}, {place}",
                hint="ask whoever made it to publish to a registry that others can reach",
            )
        return remote.registry(urljoin(source, f"{place}/").rstrip("/"))

    return Sources(named, opened)


def seen_from(folder: Path, source: str, lockfile: Lockfile) -> Lockfile:
    """The lockfile with its relative registries, which lie beside `source`, as `folder` has to name them."""

    def seen(place: str) -> str:
        if "://" in place or place.startswith(("~", "file:")) or Path(place).is_absolute():
            return place
        if is_remote(source):
            return urljoin(source, f"{place}/").rstrip("/")
        there = (folder_of(source) / place).resolve()
        try:
            return Path(os.path.relpath(there, folder.resolve())).as_posix()
        except ValueError:  # another drive of Windows
            return there.as_posix()

    blocks = [
        block.model_copy(update={"source": f"{REGISTRY}{seen(block.registry)}"}) if block.registry else block
        for block in lockfile.concepts
    ]
    return lockfile.model_copy(update={"concepts": tuple(blocks)})
