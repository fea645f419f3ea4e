"""How exactly one of several publishers of a version wins, in registries that have no conditional put.

The tag of a version must be written once and never change, not even while publishers race. So they race for
another tag, the claim, by Fischer's timed protocol (Lamport, "A fast mutual exclusion
algorithm", 1987):

    read the claim; where there is none, put one's own
    wait `settle` seconds
    read the claim: every publisher now reads the winner's

and then each of them, loser or winner, puts the winner's release under the version's tag. All put the same
bytes, so it does not matter which does, how often, or which was killed before; a publisher that dies after
its claim has won, and the next one to publish the version finishes the work.

The timing assumption: no more than `settle` seconds pass between a publisher's reading that there is no claim
and its own claim's taking effect in the registry. A publisher keeps to half of that: it gives up a put after
half of the time, reading included, and reads anew. The other half is for the registry to finish a put whose
sender has gone. Where the assumption breaks (a machine that slept in the middle, a registry that holds a
request for long) a late claim still loses to a version that has its tag by then, which every publisher looks
at again before it puts; two winners need a late claim and a put of the tag that hangs while that claim
settles."""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import dataclass

from perfusion_registry.registries.oci.client import OciClient
from perfusion_registry.registries.oci.manifest import OciManifest, claim_manifest, read_claim
from perfusion_registry.registries.oci.tag import claim_tag
from perfusion_registry.registries.registry import RegistryError, TransferError

SETTLE = 5.0
"""Seconds in which a claim takes effect, or never does."""

_ROUNDS = 8


@dataclass(frozen=True)
class VersionClaim:
    """The manifest that won, by its digest, and whether this publisher claimed it."""

    digest: str
    ours: bool


def claim(
    client: OciClient, repository: str, version: str, release: OciManifest, *, settle: float = SETTLE
) -> VersionClaim:
    """Claim a version for a release manifest that the registry has, and learn which claim won.

    Raises RegistryError when no claim comes through.
    """
    tag = claim_tag(version)
    where = f"{client.root}/{repository}/manifests/{tag}"
    mark = uuid.uuid4().hex
    for _ in range(_ROUNDS):
        began = time.monotonic()
        if client.manifest(repository, tag) is None:
            left = settle / 2 - (time.monotonic() - began)
            if left <= 0:
                continue
            # Where it stays unknown whether the claim came through, reading it shows.
            with contextlib.suppress(TransferError):
                client.put_manifest(repository, tag, claim_manifest(release, mark), within=left)
        time.sleep(settle)
        standing = client.manifest(repository, tag)
        if standing is not None:
            digest, publisher = read_claim(standing, where)
            return VersionClaim(digest, publisher == mark)
    raise RegistryError(
        "the registry is too slow to publish to: no claim of the version came through in time",
        where=where,
        hint="try again",
    )
