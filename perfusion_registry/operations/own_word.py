"""What a built concept's card says of its own word."""

from __future__ import annotations

from perfusion_registry.artifact import Store, read_card
from perfusion_registry.errors import PerfError


def own_similarity(store: Store, sha256: str | None) -> float | None:
    """The similarity of Eq. 4 at its own word in the prompts that it was learned with; None where the store
    does not have the artifact, and where its card does not say it.
    """
    if sha256 is None or not store.has(sha256):
        return None
    try:
        return read_card(store.path(sha256)).own_similarity
    except PerfError:  # a scene pack, or what this perf cannot read
        return None
