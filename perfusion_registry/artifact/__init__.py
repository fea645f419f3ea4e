"""Artifacts: their build key, file format, and the content-addressed store. Imports without torch.

The store needs no models of files, so every name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazy import lazy_exports

if TYPE_CHECKING:
    from perfusion_registry.artifact.card import CARD_SCHEMA as CARD_SCHEMA
    from perfusion_registry.artifact.card import ConceptCard as ConceptCard
    from perfusion_registry.artifact.format import Artifact as Artifact
    from perfusion_registry.artifact.format import embedding_name as embedding_name
    from perfusion_registry.artifact.format import embedding_tensors as embedding_tensors
    from perfusion_registry.artifact.format import embeddings_of as embeddings_of
    from perfusion_registry.artifact.format import load_artifact as load_artifact
    from perfusion_registry.artifact.format import read_card as read_card
    from perfusion_registry.artifact.format import residual_of as residual_of
    from perfusion_registry.artifact.format import residual_tensors as residual_tensors
    from perfusion_registry.artifact.format import save_artifact as save_artifact
    from perfusion_registry.artifact.key import build_key as build_key
    from perfusion_registry.artifact.key import digest_of as digest_of
    from perfusion_registry.artifact.key import training_key as training_key
    from perfusion_registry.artifact.paths import CACHE_VARIABLE as CACHE_VARIABLE
    from perfusion_registry.artifact.paths import cache_dir as cache_dir
    from perfusion_registry.artifact.store import Store as Store

_HOME = {
    "Artifact": "format",
    "CACHE_VARIABLE": "paths",
    "CARD_SCHEMA": "card",
    "ConceptCard": "card",
    "Store": "store",
    "build_key": "key",
    "cache_dir": "paths",
    "digest_of": "key",
    "embedding_name": "format",
    "embedding_tensors": "format",
    "embeddings_of": "format",
    "load_artifact": "format",
    "read_card": "format",
    "residual_of": "format",
    "residual_tensors": "format",
    "save_artifact": "format",
    "training_key": "key",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME)
