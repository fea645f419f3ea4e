"""Artifacts: their build key, file format, and the content-addressed store. Imports without torch."""

from perfusion_registry.artifact.card import CARD_SCHEMA, ConceptCard
from perfusion_registry.artifact.format import Artifact, load_artifact, read_card, save_artifact
from perfusion_registry.artifact.key import build_key, digest_of, training_key
from perfusion_registry.artifact.paths import CACHE_VARIABLE, cache_dir
from perfusion_registry.artifact.store import Store

__all__ = [
    "CACHE_VARIABLE",
    "CARD_SCHEMA",
    "Artifact",
    "ConceptCard",
    "Store",
    "build_key",
    "cache_dir",
    "digest_of",
    "load_artifact",
    "read_card",
    "save_artifact",
    "training_key",
]
