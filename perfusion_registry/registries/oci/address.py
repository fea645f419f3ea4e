"""The address of an OCI registry: `oci://host[:port]/namespace`.

Plain HTTP is used for this machine only, unless `oci+http://` is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from perfusion_registry.registries.credentials import refuse_credentials
from perfusion_registry.registries.registry import RegistryError
from perfusion_registry.registries.transport import Origin, origin_of

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAMESPACE = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_LONGEST_NAMESPACE = 255 - 1 - 64
_API_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True)
class OciAddress:
    """A namespace of a registry: `url` as it was written, the origin of the registry's API, the namespace."""

    url: str
    origin: Origin
    namespace: str


def parse_oci_address(url: str) -> OciAddress:
    """Read `oci://host[:port]/namespace`; raises RegistryError when it is not such a URL."""
    refuse_credentials(url)
    scheme, _, rest = url.partition("://")
    if scheme not in ("oci", "oci+http") or not rest:
        raise _not_an_address("an OCI registry is written `oci://host/namespace`", url)
    host_text, _, namespace = rest.partition("/")
    origin = origin_of(f"https://{host_text.lower()}")
    namespace = namespace.rstrip("/")
    if origin is None or re.search(r"[^a-z0-9.:\[\]-]", host_text.lower()):
        raise _not_an_address(f"`{host_text[:80]}` is not a host", url)
    if not _NAMESPACE.match(namespace) or len(namespace) > _LONGEST_NAMESPACE:
        raise _not_an_address(
            "the namespace is one or more names of lowercase letters, digits, `.`, `_` and `-`, "
            "with `/` between them",
            url,
        )
    if scheme == "oci+http" or origin.loopback:
        origin = origin_of(f"http://{host_text.lower()}") or origin
    host = _API_HOSTS.get(origin.host, origin.host)
    return OciAddress(url, Origin(origin.scheme, host, origin.port), namespace)


def _not_an_address(why: str, url: str) -> RegistryError:
    return RegistryError(f"not an OCI registry: {why}", where=url[:200], hint="correct it in [registries]")
