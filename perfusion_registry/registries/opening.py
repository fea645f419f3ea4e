"""From the address of a registry, as a manifest or a lockfile names it, to the registry.

Which backend serves an address is decided by its scheme: one of `SCHEMES`, or one that another distribution
brings, under the entry-point group `perfusion_registry.registries`, with the scheme as the name of the entry
point and a `Backend` as its object.
"""

from __future__ import annotations

import re
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.plugins import load_object, load_plugin, plugin_names
from perfusion_registry.registries.credentials import refuse_credentials
from perfusion_registry.registries.registry import Backend, Registry, RegistryError

SCHEMES = {
    "file": "perfusion_registry.registries.folder:BACKEND",
    "http": "perfusion_registry.registries.http:BACKEND",
    "https": "perfusion_registry.registries.http:BACKEND",
    "s3": "perfusion_registry.registries.s3:BACKEND",
    "oci": "perfusion_registry.registries.oci.registry:BACKEND",
    "oci+http": "perfusion_registry.registries.oci.registry:BACKEND",
    "hf": "perfusion_registry.registries.hub.registry:BACKEND",
}
"""The backend of each scheme; an address without one is a folder."""

ENTRY_POINTS = "perfusion_registry.registries"
"""The group in which distributions name further backends; they replace none of `SCHEMES`."""

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):")  # two letters at least: `C:` is a drive


def open_registry(url: str, *, name: str, root: Path, cache: Path, offline: bool = False) -> Registry:
    """The registry at `url`, a folder (relative to `root`) or an address.

    Several `https://` addresses with spaces between them are the registry and its mirrors, tried in that
    order. name: what the manifest calls the registry, for its credentials. cache: the folder where it
    remembers what it saw. offline: of a registry that needs the network, only what is remembered. No socket
    is opened yet. Raises RegistryError for an address that perf does not understand, or that has credentials
    in it.
    """
    url = " ".join(url.split())
    for address in url.split(" "):
        refuse_credentials(address)
    if not url or not url.isprintable():
        raise RegistryError("the registry's address is empty or unprintable", hint=_known())
    matched = _SCHEME.match(url)
    backend = _backend(matched[1].lower() if matched else "file", url)
    if offline and not backend.local:
        from perfusion_registry.registries.offline import OfflineRegistry

        return OfflineRegistry(url, cache=cache)
    return backend.open(url, name=name, root=root, cache=cache)


def _backend(scheme: str, url: str) -> Backend:
    """The backend of a scheme: perf's own, or that of the one distribution that brings it."""
    if scheme in SCHEMES:
        shipped: Backend = load_object(SCHEMES[scheme])
        return shipped
    try:
        brought = load_plugin(ENTRY_POINTS, scheme, Backend, f"backend for `{scheme}://` registries")
    except PerfError as error:
        raise RegistryError(error.what, where=url, hint=error.hint) from error
    if brought is None:
        raise RegistryError(f"perf has no backend for `{scheme}://` registries", where=url, hint=_known())
    return brought


def _known() -> str:
    """Which addresses there are, for the hint of an error."""
    schemes = sorted({*SCHEMES, *plugin_names(ENTRY_POINTS)})
    return f"give a folder, or an address that begins with {', '.join(f'{scheme}://' for scheme in schemes)}"
