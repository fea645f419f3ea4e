"""Releases made up for the tests, and keys that are the same in every run."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from perfusion_registry.recipe.lockfile import FORMAT_1_GATE
from perfusion_registry.registries import Listing, Release
from perfusion_registry.trust import SigningKey

REGISTRY = "https://studio.example/concepts"


def key(number: int = 1) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32), "a test")


def release(version: str = "1.0.0", **changes: Any) -> Release:
    values: dict[str, Any] = {
        "name": "teddy",
        "version": version,
        "sha256": "a" * 64,
        "size": 30_000,
        "family": "f" * 64,
        "covariance": "c" * 64,
        "supercategory": "teddy",
        "bias": 0.65,
        "temperature": 0.15,
        "key_lock": "local",
        "licence": "CC-BY-4.0",
        "authors": ("A. N. Author",),
    }
    if "render" in changes:
        values = {key: value for key, value in values.items() if key not in FORMAT_1_GATE}
    return Release(**{**values, **changes})


FORMATS: dict[int, dict[str, Any]] = {
    1: {},
    2: {
        "format": 2,
        "architecture": "stable-diffusion",
        "render": {"bias": 0.65, "temperature": 0.15, "key_lock": "local"},
    },
}
"""What a release of each format says beside the rest."""


def signed(version: str = "1.0.0", number: int = 1, **changes: Any) -> Listing:
    return Listing(key(number).sign(release(version, **changes)))


def unsigned(version: str = "1.0.0") -> Listing:
    return Listing(release(version))
