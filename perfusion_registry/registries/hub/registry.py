"""Concepts in a repository of the Hugging Face Hub: `hf://owner/name` or `hf://datasets/owner/name`.

The repository has the layout of every sparse registry (`sparse`), read at the addresses under which the Hub
serves files. A publication, a yank or an unyank is one commit, of the blob, the index and the catalogue
together, made on the condition that the branch is still at the commit that was read (`parent_commit`). So the
Hub decides: of two publishers one commits, and the other, whose condition fails, reads anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from perfusion_registry.registries.backoff import Backoff
from perfusion_registry.registries.bucket import StoredObject
from perfusion_registry.registries.credentials import Credentials, credentials_for
from perfusion_registry.registries.http import HttpBucket
from perfusion_registry.registries.hub.address import TOKEN_VARIABLE, ensure_private, parse_hub_address
from perfusion_registry.registries.hub.commit import HubCommits, MovedOnError, bounded_client, offline
from perfusion_registry.registries.hub.staging import Staging
from perfusion_registry.registries.registry import (
    Backend,
    CatalogueEntry,
    Listing,
    RegistryError,
    TransferError,
)
from perfusion_registry.registries.release import LARGEST_BLOB, Release
from perfusion_registry.registries.sparse import SparseRegistry

_ROUNDS = 64
_FAILURES = 4
_CONTENTION = Backoff(0.05, longest=2.0)  # commits take the Hub longer than puts take a bucket


class HubRegistry:
    """The registry in a repository of the Hub; `HF_ENDPOINT` names another Hub than huggingface.co.

    token: for reading what is private, and for writing; None takes `HF_TOKEN`. cache: the folder where it
    remembers what it saw. backoff: the pauses before another commit. Raises RegistryError when `url` is not
    such an address.
    """

    def __init__(self, url: str, *, token: str | None, cache: Path, backoff: Backoff = _CONTENTION) -> None:
        self._address = parse_hub_address(url)
        self._token = token or os.environ.get(TOKEN_VARIABLE, "").strip() or None
        if self._token is not None:
            ensure_private(self._address.endpoint)
        self._cache = cache
        self._backoff = backoff
        self._commits = HubCommits(self._address, self._token)
        self._sparse = SparseRegistry(self._at(self._address.revision), cache=cache)

    @property
    def url(self) -> str:
        """The place as the manifest and the lockfile name it."""
        return self._address.url

    def versions(self, name: str) -> Sequence[Listing]:
        """All releases of a concept, oldest version first; empty where the registry does not know it."""
        self._check_online()
        return self._sparse.versions(name)

    def blob(self, release: Release) -> Iterator[bytes]:
        """The bytes of a release's blob in pieces, not yet hashed; more than its size never come."""
        self._check_online()
        return self._sparse.blob(release)

    def publish(self, release: Release, blob: bytes, preview: bytes | None = None) -> bool:
        """Publish a release in one commit.

        False where the very same release is there already. Raises AlreadyPublishedError, naming both digests,
        when the version is there with other bytes, RegistryError when the blob is not what `release` says.
        """
        return self._committed(
            lambda registry: registry.publish(release, blob, preview),
            f"Publish {release.name} {release.version}",
        )

    def yank(self, name: str, version: str, *, reason: str = "") -> bool:
        """Hide a version from resolution, never from a lock; False where it is yanked already."""
        return self._committed(
            lambda registry: registry.yank(name, version, reason=reason), f"Yank {name} {version}"
        )

    def unyank(self, name: str, version: str) -> bool:
        """Show a version again; False where it is not yanked."""
        return self._committed(lambda registry: registry.unyank(name, version), f"Unyank {name} {version}")

    def catalogue(self) -> tuple[CatalogueEntry, ...]:
        """Every concept of the registry, by name."""
        self._check_online()
        return self._sparse.catalogue()

    def _at(self, revision: str) -> HttpBucket:
        """The repository's files at a branch, tag or commit."""
        credentials = Credentials(token=self._token) if self._token is not None else None
        return HttpBucket(self.url, {self._address.files(revision): credentials})

    def _committed(self, change: Callable[[SparseRegistry], bool], message: str) -> bool:
        """Make a change in one commit, on top of what the branch has; False where there is none to make."""
        self._check_online()
        self._check_writable()
        with bounded_client():
            return self._tried(change, message)

    def _tried(self, change: Callable[[SparseRegistry], bool], message: str) -> bool:
        failures = 0
        unknown: Staging | None = None
        for attempt in range(_ROUNDS):
            head = self._commits.head()
            staging = Staging(self._at(head), url=self.url)
            if not change(SparseRegistry(staging, cache=self._cache, name=self._address.repo)):
                if unknown is None:
                    return False
                # The commit of unknown outcome was made. Others may have added to its logs since.
                self._verify({key: data for key, data in unknown.written.items() if "blobs/" in key}, head)
                return True
            try:
                done = self._commits.commit(staging.written, upon=head, message=message)
            except MovedOnError:
                pass
            except TransferError:
                unknown = staging
                failures += 1
                if failures == _FAILURES:
                    raise
            else:
                self._verify(staging.written, done)
                return True
            time.sleep(self._backoff.wait(attempt + 1))
        raise RegistryError(
            "too many others are publishing to this repository at the same time",
            where=self.url,
            hint="try again",
        )

    def _verify(self, written: Mapping[str, bytes], commit: str) -> None:
        """Read back what was committed; raises RegistryError where the Hub has something else.

        A repository's .gitignore, for one, makes the Hub leave files out without an error.
        """
        committed = self._at(commit)
        for key, data in written.items():
            stored = committed.get(key, limit=max(LARGEST_BLOB, len(data)))
            if not isinstance(stored, StoredObject) or stored.data != data:
                raise RegistryError(
                    f"the Hub did not keep {key} as it was sent",
                    where=f"{self.url}, commit {commit[:12]}",
                    hint="revert that commit, and see whether the repository's .gitignore names such files",
                )

    def _check_online(self) -> None:
        if os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE"):
            raise offline(self.url)

    def _check_writable(self) -> None:
        if self._address.pinned:
            raise RegistryError(
                "a commit cannot be changed", where=self.url, hint="name a branch after the `@`, or none"
            )
        if self._token is None:
            raise RegistryError(
                "publishing to the Hub needs a token",
                where=self.url,
                hint=f"set {TOKEN_VARIABLE}, or PERF_REGISTRY_<NAME>_TOKEN, to one that may write here",
            )


def open_hub(url: str, *, name: str, root: Path, cache: Path) -> HubRegistry:
    """The registry in the repository of the Hub at `url`."""
    credentials = credentials_for(name, url)
    return HubRegistry(url, token=credentials.token if credentials else None, cache=cache)


BACKEND = Backend(open_hub)
