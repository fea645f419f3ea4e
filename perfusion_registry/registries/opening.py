"""From the address of a registry, as a manifest or a lockfile names it, to the registry.

Which backend serves an address is decided by its scheme: one of `SCHEMES`, or one that another distribution
brings, under the entry-point group `perfusion_registry.registries`, with the scheme as the name of the entry
point and a `Backend` as its object.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from perfusion_registry.errors import one_line
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
        module, _, attribute = SCHEMES[scheme].partition(":")
        shipped: Backend = getattr(import_module(module), attribute)
        return shipped
    from importlib.metadata import entry_points

    points = entry_points(group=ENTRY_POINTS, name=scheme)
    if not points:
        raise RegistryError(f"perf has no backend for `{scheme}://` registries", where=url, hint=_known())
    brought_by = sorted({point.dist.name if point.dist else point.value for point in points})
    if len({point.value for point in points}) > 1:
        raise RegistryError(
            f"{' and '.join(brought_by)} both bring a backend for `{scheme}://` registries",
            where=url,
            hint="uninstall one of them",
        )
    try:
        backend = next(iter(points)).load()
    except (ImportError, AttributeError) as error:
        backend, why = None, f": {one_line(str(error))}"
    else:
        why = ": its entry point does not name a `Backend`"
    if not isinstance(backend, Backend):
        raise RegistryError(
            f"the backend for `{scheme}://` registries that {brought_by[0]} brings cannot be used{why}",
            where=url,
            hint=f"upgrade or reinstall {brought_by[0]}",
        )
    return backend


def _known() -> str:
    """Which addresses there are, for the hint of an error."""
    from importlib.metadata import entry_points

    schemes = sorted({*SCHEMES, *(point.name for point in entry_points(group=ENTRY_POINTS))})
    return f"give a folder, or an address that begins with {', '.join(f'{one}://' for one in schemes)}"
