"""Registries: where concepts are published and found. Imports without torch or network."""

from perfusion_registry.registries.registry import (
    AlreadyPublishedError,
    CatalogueEntry,
    Listing,
    Registry,
    RegistryError,
    TransferError,
)
from perfusion_registry.registries.release import LARGEST_BLOB, Release, RequiredConcept, Signature

__all__ = [
    "LARGEST_BLOB",
    "AlreadyPublishedError",
    "CatalogueEntry",
    "Listing",
    "Registry",
    "RegistryError",
    "Release",
    "RequiredConcept",
    "Signature",
    "TransferError",
]
