"""What a built concept's card says of its own word, and of where that was learned."""

from __future__ import annotations

from perfusion_registry.artifact import ConceptCard, Store, read_card
from perfusion_registry.errors import PerfError


def own_similarity(store: Store, sha256: str | None) -> float | None:
    """The similarity of Eq. 4 at its own word in the prompts that it was learned with; None where the store
    does not have the artifact, and where its card does not say it.
    """
    card = stored_card(store, sha256)
    return card.own_similarity if card is not None else None


def learned_on(store: Store, sha256: str | None) -> str | None:
    """The base that a transferred concept was learned on; None for any other, and as in `own_similarity`."""
    card = stored_card(store, sha256)
    return card.transferred.base if card is not None and card.transferred is not None else None


def stored_card(store: Store, sha256: str | None) -> ConceptCard | None:
    """The card of an artifact; None where the store does not have it, or it has none that this perf reads."""
    if sha256 is None or not store.has(sha256):
        return None
    try:
        return read_card(store.path(sha256))
    except PerfError:  # a scene pack, or what this perf cannot read
        return None
