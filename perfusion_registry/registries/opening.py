"""From the address of a registry, as a manifest or a lockfile names it, to the registry."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from perfusion_registry.registries.credentials import (
    credentials_for,
    mirror_credentials,
    refuse_credentials,
)
from perfusion_registry.registries.registry import Registry, RegistryError

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):")  # two letters at least: `C:` is a drive
_KNOWN = "a folder, file://, https://, s3://, oci:// or hf://"


def open_registry(url: str, *, name: str, root: Path, cache: Path, offline: bool = False) -> Registry:
    """The registry at `url`, a folder (relative to `root`) or an address.

    Several `https://` addresses with spaces between them are the registry and its mirrors, tried in that
    order. name: what the manifest calls the registry, for its credentials. cache: the folder where it
    remembers what it saw. offline: of a registry that is not a folder, only what is remembered. No socket is
    opened yet. Raises RegistryError for an address that perf does not understand, or that has credentials in
    it.
    """
    url = " ".join(url.split())
    for one in url.split(" "):
        refuse_credentials(one)
    if not url or not url.isprintable():
        raise RegistryError("the registry's address is empty or unprintable", hint=f"give {_KNOWN}")
    matched = _SCHEME.match(url)
    scheme = matched[1].lower() if matched else ""
    if scheme in ("", "file"):
        from perfusion_registry.registries.folder import FolderBucket
        from perfusion_registry.registries.sparse import SparseRegistry

        folder = root / (_file_path(url) if scheme else Path(url).expanduser())
        return SparseRegistry(FolderBucket(folder, url=url), cache=cache, name=name)
    if scheme not in ("http", "https", "s3", "oci", "oci+http", "hf"):
        raise RegistryError(f"perf knows no `{scheme}://` registries", where=url, hint=f"give {_KNOWN}")
    if offline:
        from perfusion_registry.registries.offline import OfflineRegistry

        return OfflineRegistry(url, cache=cache)
    return _remote(scheme, url, name=name, cache=cache)


def _remote(scheme: str, url: str, *, name: str, cache: Path) -> Registry:
    if scheme in ("oci", "oci+http"):
        from perfusion_registry.registries.oci.registry import OciRegistry

        return OciRegistry(url, credentials=credentials_for(name, url), cache=cache)
    if scheme == "hf":
        from perfusion_registry.registries.hub.registry import HubRegistry

        credentials = credentials_for(name, url)
        return HubRegistry(url, token=credentials.token if credentials else None, cache=cache)
    from perfusion_registry.registries.sparse import SparseRegistry

    if scheme == "s3":
        from perfusion_registry.registries.s3 import S3Bucket

        return SparseRegistry(S3Bucket(url, name=name), cache=cache, name=name)
    from perfusion_registry.registries.http import HttpBucket

    mirrors = url.split(" ")
    given = {mirrors[0]: credentials_for(name, mirrors[0])}
    given |= {mirror: mirror_credentials(mirror) for mirror in mirrors[1:] if mirror not in given}
    return SparseRegistry(HttpBucket(url, given), cache=cache, name=name)


def _file_path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise RegistryError(
            "a file:// address names a folder of this machine", where=url, hint="file:///folder"
        )
    return Path(url2pathname(parts.path))
