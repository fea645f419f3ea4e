"""The part of the OCI distribution API (1.1) that perf uses; whatever is sent or received is hashed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perfusion_registry.registries.backoff import BACKOFF, Backoff
from perfusion_registry.registries.credentials import Credentials
from perfusion_registry.registries.oci.address import OciAddress
from perfusion_registry.registries.oci.http import PATIENCE, Answer, OciHttp, fetch_once
from perfusion_registry.registries.oci.manifest import (
    INDEX_TYPE,
    MANIFEST_TYPE,
    OciManifest,
    digest_of,
    is_digest,
)
from perfusion_registry.registries.oci.refusal import refusal
from perfusion_registry.registries.oci.token import Authenticator, DeniedError
from perfusion_registry.registries.registry import RegistryError, TransferError
from perfusion_registry.registries.transport import (
    SLOWEST,
    origin_of,
    resolve_redirect,
)

_PAGE = 1000
_PAGES = 1000
_READS = 4
_PUTS = 4
_UPLOADS = 3


class _Page(BaseModel):
    model_config = ConfigDict(extra="ignore")
    tags: Annotated[list[str] | None, Field(max_length=100_000)] = None
    repositories: Annotated[list[str] | None, Field(max_length=100_000)] = None


class _DamagedError(TransferError):
    """The bytes of a manifest that arrived are not those of its digest."""


class OciClient:
    """One registry's API; `repository` is always the full name, with the namespace.

    Every method raises RegistryError where the registry does not answer, refuses, or answers what is false.
    """

    def __init__(self, http: OciHttp) -> None:
        self._http = http
        self.root = f"{http.origin}/v2"
        self.pause = http.pause

    def tags(self, repository: str) -> tuple[str, ...]:
        """All tags of a repository, as the registry lists them; none where it does not know it."""
        url = f"{self.root}/{repository}/tags/list?n={_PAGE}"
        tags = self._pages(url, _scope(repository), lambda page: page.tags)
        return () if tags is None else tags

    def repositories(self) -> tuple[str, ...] | None:
        """All repositories of the registry; None where it does not say (few do)."""
        url = f"{self.root}/_catalog?n={_PAGE}"
        try:
            return self._pages(url, "registry:catalog:*", lambda page: page.repositories)
        except DeniedError:
            return None

    def manifest(self, repository: str, reference: str) -> OciManifest | None:
        """The manifest with this tag or digest, hashed, in several attempts; None where there is none."""
        for attempt in range(1, _READS + 1):
            try:
                return self._manifest(repository, reference)
            except _DamagedError:
                if attempt == _READS:
                    raise
                self.pause(attempt)
        raise AssertionError("unreachable")

    def _manifest(self, repository: str, reference: str) -> OciManifest | None:
        url = self._manifest_url(repository, reference)
        answer = self._http.ask(
            "GET", url, scope=_scope(repository), headers={"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}"}
        )
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise refusal(answer, "hand out a manifest")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        manifest = OciManifest(answer.data, media_type)
        announced = answer.headers.get("docker-content-digest", manifest.digest)
        requested = reference if is_digest(reference) else manifest.digest
        # What is not JSON is not a whole manifest, even where there is no digest to show that.
        if manifest.digest != announced or manifest.digest != requested or not _is_object(manifest.data):
            raise _DamagedError(
                "the manifest's bytes are not what its digest says"
                if _is_object(manifest.data)
                else "the registry answers with something that is not a manifest",
                where=url,
                hint="try again; if it stays so, tell the registry's owner",
            )
        return manifest

    def put_manifest(
        self, repository: str, reference: str, manifest: OciManifest, *, within: float | None = None
    ) -> None:
        """Store a manifest under a tag or its digest.

        within: make one attempt of so many seconds, in place of several with their own patience; raises
        TransferError when it stays unknown whether that one came through.
        """
        for attempt in range(1, _PUTS + 1):
            try:
                self._put_manifest(repository, reference, manifest, within)
                return
            except TransferError:
                if attempt == _PUTS or within is not None:
                    raise
                self.pause(attempt)

    def _put_manifest(
        self, repository: str, reference: str, manifest: OciManifest, within: float | None
    ) -> None:
        url = self._manifest_url(repository, reference)
        answer = self._http.ask(
            "PUT",
            url,
            scope=_scope(repository, push=True),
            headers={"Content-Type": manifest.media_type},
            body=manifest.data,
            attempts=1,
            seconds=PATIENCE if within is None else within,
        )
        if answer.status not in (200, 201, 202):
            raise refusal(answer, "take a manifest")
        if answer.headers.get("docker-content-digest", manifest.digest) != manifest.digest:
            raise TransferError(
                "the registry stored another manifest than it was given", where=url, hint="publish again"
            )

    def blob(self, repository: str, digest: str, size: int) -> Iterator[bytes]:
        """The bytes of a blob in pieces; TransferError at their end when they are not what `digest` says."""
        url = f"{self.root}/{repository}/blobs/{digest}"
        hashed = hashlib.sha256()
        for piece in self._http.pieces(url, scope=_scope(repository), size=size):
            hashed.update(piece)
            yield piece
        if f"sha256:{hashed.hexdigest()}" != digest:
            raise TransferError(
                "the blob's bytes are not what its digest says",
                where=url,
                hint="try again; if it stays so, tell the registry's owner",
            )

    def whole(self, repository: str, digest: str, size: int) -> bytes:
        """A blob in one piece, in several attempts."""
        for attempt in range(1, _READS + 1):
            try:
                return b"".join(self.blob(repository, digest, size))
            except TransferError:
                if attempt == _READS:
                    raise
                self.pause(attempt)
        raise AssertionError("unreachable")

    def upload(self, repository: str, data: bytes) -> None:
        """Store a blob, unless the registry has it."""
        digest, scope = digest_of(data), _scope(repository, push=True)
        existing = self._http.ask("HEAD", f"{self.root}/{repository}/blobs/{digest}", scope=scope)
        if existing.status == 200:
            return
        for attempt in range(1, _UPLOADS + 1):
            begun = self._http.ask(
                "POST",
                f"{self.root}/{repository}/blobs/uploads/",
                scope=scope,
                headers={"Content-Length": "0"},
            )
            if begun.status != 202:
                raise refusal(begun, "take an upload")
            location = self._redirect(begun, begun.headers.get("location", ""))
            url = f"{location}{'&' if '?' in location else '?'}digest={quote(digest, safe='')}"
            try:
                # An upload that broke off cannot always be resumed; the next attempt begins anew.
                ended = self._http.ask(
                    "PUT",
                    url,
                    scope=scope,
                    headers={"Content-Type": "application/octet-stream"},
                    body=data,
                    attempts=1,
                    seconds=2 * PATIENCE + len(data) / SLOWEST,
                )
            except TransferError:
                if attempt == _UPLOADS:
                    raise
                self.pause(attempt)
                continue
            if ended.status in (200, 201, 202, 204):
                return
            refused = refusal(ended, "take the blob")
            lost = ended.status in (404, 416)  # the registry forgot that the upload had begun
            if attempt == _UPLOADS or not (lost or isinstance(refused, TransferError)):
                raise refused
            self.pause(attempt)

    def _pages(
        self, url: str, scope: str, part: Callable[[_Page], Sequence[str] | None]
    ) -> tuple[str, ...] | None:
        """All entries of a paginated list; None where the registry does not have the list."""
        entries: dict[str, None] = {}
        seen: set[str] = set()
        while url not in seen and len(seen) < _PAGES:
            seen.add(url)
            answer = self._http.ask("GET", url, scope=scope)
            if answer.status in (404, 405, 501) and len(seen) == 1:
                return None
            if answer.status != 200:
                raise refusal(answer, "list")
            try:
                page = _Page.model_validate_json(answer.data)
            except ValidationError as error:
                raise RegistryError(
                    "the registry answers with a list that cannot be read",
                    where=url,
                    hint="check its address",
                ) from error
            entries |= dict.fromkeys(part(page) or ())
            link = answer.headers.get("link")
            if not link:
                return tuple(entries)
            url = self._next(answer, link)
        raise RegistryError("the registry's list does not end", where=f"{self.root}", hint="tell its owner")

    def _next(self, answer: Answer, link: str) -> str:
        """The URL of the next page, which must be the registry's own."""
        target, _, relation = link.strip().removeprefix("<").partition(">")
        url = self._redirect(answer, target)
        if "next" not in relation or origin_of(url) != self._http.origin:
            raise RegistryError(
                "the registry's list continues at an address that is not its own", where=answer.url
            )
        return url

    def _redirect(self, answer: Answer, location: str) -> str:
        """Where an answer leads, to the next page or to the address of an upload."""
        return resolve_redirect(answer.url, location, self._http.origin)

    def _manifest_url(self, repository: str, reference: str) -> str:
        return f"{self.root}/{repository}/manifests/{reference}"


def oci_client(address: OciAddress, credentials: Credentials | None, backoff: Backoff = BACKOFF) -> OciClient:
    """The client for an address; raises RegistryError when credentials would be sent unencrypted."""
    if credentials is not None and not address.origin.secure:
        raise RegistryError(
            "the registry's credentials would travel in the open, over http",
            where=address.url,
            hint="use https",
        )
    login = None
    if credentials is not None:
        login = (credentials.username or "token", credentials.token or credentials.password or "")
    return OciClient(OciHttp(address.origin, Authenticator(address.origin, login, fetch_once), backoff))


def _scope(repository: str, *, push: bool = False) -> str:
    """What a token must allow."""
    return f"repository:{repository}:{'pull,push' if push else 'pull'}"


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False
