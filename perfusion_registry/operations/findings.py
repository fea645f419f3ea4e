"""What the build of an artifact found out, as the store knows it: its card, and the sheet beside it."""

from __future__ import annotations

from typing import Any

from perfusion_registry.artifact import ConceptCard, Store, read_card
from perfusion_registry.errors import PerfError


def findings(store: Store, sha256: str | None) -> dict[str, Any]:
    """For a result's fields: similarity, energy, rating, verdict, sheet, the base that it was learned on,
    where it was transferred, and the file that it was imported from; each None where it is not known or is
    not so. Nothing where the store does not have the artifact.
    """
    card = stored_card(store, sha256)
    if card is None or sha256 is None:
        return {}
    sheet = store.sheet_path(sha256)
    return {
        "similarity": card.own_similarity,
        "energy": card.energy,
        "learned_on": card.transferred.base if card.transferred is not None else None,
        "imported": card.imported,
        "rating": card.verdict.rating if card.verdict is not None else None,
        "verdict": card.verdict,
        "sheet": str(sheet) if sheet.is_file() else None,
    }


def stored_card(store: Store, sha256: str | None) -> ConceptCard | None:
    """The card of an artifact; None where the store does not have it, or it has none that this perf reads."""
    if sha256 is None or not store.has(sha256):
        return None
    try:
        return read_card(store.path(sha256))
    except PerfError:  # a scene pack, or what this perf cannot read
        return None
