"""Artifacts: their build key, file format, and the content-addressed store. Imports without torch.

The store needs no models of files, so every name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazy import lazy_exports

if TYPE_CHECKING:
    from perfusion_registry.artifact.card import CARD_SCHEMA as CARD_SCHEMA
    from perfusion_registry.artifact.card import ConceptCard as ConceptCard
    from perfusion_registry.artifact.card import card_fields as card_fields
    from perfusion_registry.artifact.format import Artifact as Artifact
    from perfusion_registry.artifact.format import load_artifact as load_artifact
    from perfusion_registry.artifact.format import read_card as read_card
    from perfusion_registry.artifact.format import save_artifact as save_artifact
    from perfusion_registry.artifact.key import build_key as build_key
    from perfusion_registry.artifact.key import card_key as card_key
    from perfusion_registry.artifact.key import digest_of as digest_of
    from perfusion_registry.artifact.key import training_key as training_key
    from perfusion_registry.artifact.key import transfer_key as transfer_key
    from perfusion_registry.artifact.store import Store as Store

_HOME = {
    "Artifact": "format",
    "CARD_SCHEMA": "card",
    "ConceptCard": "card",
    "Store": "store",
    "build_key": "key",
    "card_key": "key",
    "card_fields": "card",
    "digest_of": "key",
    "load_artifact": "format",
    "read_card": "format",
    "save_artifact": "format",
    "training_key": "key",
    "transfer_key": "key",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME)
