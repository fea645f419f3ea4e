"""The address of a registry on the Hub: `hf://owner/name` or `hf://datasets/owner/name`, and `@revision`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from perfusion_registry.registries.credentials import is_loopback, refuse_credentials
from perfusion_registry.registries.registry import RegistryError

ENDPOINT_VARIABLE = "HF_ENDPOINT"
TOKEN_VARIABLE = "HF_TOKEN"

_ENDPOINT = "https://huggingface.co"
_SHAPE = re.compile(
    r"hf://(?P<datasets>datasets/)?(?P<repo>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})"
    r"(?:@(?P<revision>[A-Za-z0-9][\w./+-]{0,254}))?/?\Z",
    re.ASCII,
)
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True)
class HubAddress:
    """A repository of the Hub at `endpoint`, and the branch, tag or commit of it."""

    url: str
    endpoint: str
    repo: str
    dataset: bool
    revision: str

    @property
    def kind(self) -> str:
        """What the Hub calls this kind of repository."""
        return "dataset" if self.dataset else "model"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which nothing can be added to."""
        return _COMMIT.match(self.revision) is not None

    def files(self, revision: str) -> str:
        """The address below which the Hub serves the repository's files at a revision."""
        prefix = "datasets/" if self.dataset else ""
        return f"{self.endpoint}/{prefix}{self.repo}/resolve/{quote(revision, safe='')}"


def parse_hub_address(url: str) -> HubAddress:
    """Parse such an address; raises RegistryError for another, or an endpoint that is not a web server."""
    shape = _SHAPE.match(url)
    if shape is None or ".." in url:
        refuse_credentials(url)
        raise RegistryError(
            "a registry on the Hub is written `hf://owner/name` or `hf://datasets/owner/name`, "
            "with `@revision` where it is not the main branch",
            where=url[:200],
            hint="correct it in [registries]",
        )
    return HubAddress(
        url, _endpoint(), shape["repo"], shape["datasets"] is not None, shape["revision"] or "main"
    )


def ensure_private(endpoint: str) -> None:
    """Raise RegistryError where a token for the endpoint would travel in the open."""
    parts = urlsplit(endpoint)
    if parts.scheme != "https" and not is_loopback(parts.hostname):
        raise RegistryError(
            "the token for the Hub would travel in the open, over http",
            where=f"{ENDPOINT_VARIABLE}={endpoint}",
            hint="use https",
        )


def _endpoint() -> str:
    endpoint = os.environ.get(ENDPOINT_VARIABLE, "").strip().rstrip("/") or _ENDPOINT
    refuse_credentials(endpoint)
    try:
        parts = urlsplit(endpoint)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise RegistryError(
            f"{ENDPOINT_VARIABLE} is not an address of a web server",
            where=endpoint[:200],
            hint=f"unset it, or give one such as {_ENDPOINT}",
        )
    return endpoint
