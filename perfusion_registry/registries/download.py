"""From a registry into the store: each blob once, hashed while it streams."""

from __future__ import annotations

import hashlib
import time

from perfusion_registry.artifact import Store
from perfusion_registry.registries.backoff import BACKOFF
from perfusion_registry.registries.registry import Registry, RegistryError, TransferError
from perfusion_registry.registries.release import Release, preview_of
from perfusion_registry.reporter import Reporter, Silent

ATTEMPTS = 4
LARGEST_PREVIEW = 1024 * 1024
"""Bytes of a preview that is fetched; those that `perf publish` makes have some 20,000."""


def download(registry: Registry, release: Release, store: Store, reporter: Reporter | None = None) -> None:
    """Put the bytes of `release` into the store, unless they are there.

    Of several processes one downloads and the others wait for it. What arrives with another length or another
    SHA-256 than the release names is discarded and fetched again, a few times; then that is a RegistryError,
    and the store is unchanged.
    """
    reporter = reporter or Silent()
    if store.has(release.sha256):
        return
    what = f"`{release.name}` {release.version}"
    with store.building(release.sha256, f"{release.name} {release.version}", reporter, doing="fetching"):
        if store.has(release.sha256):
            return
        for attempt in range(1, ATTEMPTS + 1):
            try:
                store.put(_whole(registry, release, reporter))
                return
            except TransferError as error:
                if attempt == ATTEMPTS:
                    raise TransferError(
                        f"{what} did not arrive in {ATTEMPTS} tries; the last one: {error.what}",
                        where=error.where or registry.url,
                        hint=error.hint or "try again later; if it stays so, tell the registry's keeper",
                    ) from error
                reporter.note(f"fetching {what} again: {error.what}")
                time.sleep(BACKOFF.wait(attempt))


def _whole(registry: Registry, release: Release, reporter: Reporter) -> bytes:
    """The blob, if it is the one that the release names."""
    digest = hashlib.sha256()
    pieces: list[bytes] = []
    size = 0
    with reporter.stage(f"fetching {release.name} {release.version}", release.size) as stage:
        for piece in registry.blob(release):
            size += len(piece)
            if size > release.size:
                raise TransferError(f"more came than the {release.size:,} bytes that were announced")
            digest.update(piece)
            pieces.append(piece)
            stage.advance(len(piece))
    if size < release.size:
        raise TransferError(f"it broke off after {size:,} of {release.size:,} bytes")
    if digest.hexdigest() != release.sha256:
        raise TransferError(
            f"its bytes have the SHA-256 {digest.hexdigest()[:12]}, not {release.sha256[:12]} as announced"
        )
    return b"".join(pieces)


def fetch_preview(
    registry: Registry, release: Release, store: Store, reporter: Reporter | None = None
) -> bytes | None:
    """The preview picture of a release, by way of the store as `download` does it; None where it has none.

    Raises RegistryError also where it is larger than any preview.
    """
    shown = preview_of(release)
    if shown is None:
        return None
    if shown.size > LARGEST_PREVIEW:
        raise RegistryError(
            f"the preview of `{release.name}` {release.version} is said to have {shown.size:,} bytes; "
            f"{LARGEST_PREVIEW:,} are allowed",
            where=registry.url,
        )
    download(registry, shown, store, reporter)
    return store.get(shown.sha256)
