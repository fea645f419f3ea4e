"""Chance that depends on nothing but its name: a resumed run draws what an unbroken one would have."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def seed_of(*names: object) -> int:
    """A number of 63 bits for a list of names, the same on every machine."""
    text = "/".join(map(str, names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*names: object, device: str | torch.device = "cpu") -> torch.Generator:
    """torch's source of chance for the named place, such as ("denoiser", seed, step)."""
    return torch.Generator(device=device).manual_seed(seed_of(*names))


def numbers(*names: object) -> np.random.Generator:
    """numpy's source of chance for the named place."""
    return np.random.default_rng(seed_of(*names))
