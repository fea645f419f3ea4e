"""Releases, and a program to run in other processes."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from perfusion_registry.registries import Release
from perfusion_registry.registries.folder import FolderBucket
from perfusion_registry.registries.sparse import SparseRegistry

ROOT = Path(__file__).parents[2]


def release(version: str = "1.0.0", blob: bytes = b"bear", *, name: str = "teddy", **more: Any) -> Release:
    fields: dict[str, Any] = {
        "family": "f" * 64,
        "covariance": "c" * 64,
        "supercategory": "teddy",
        "bias": 0.65,
        "temperature": 0.15,
        "key_lock": "local",
        "description": "A bear with one ear",
    }
    sha256 = hashlib.sha256(blob).hexdigest()
    return Release(name=name, version=version, sha256=sha256, size=len(blob), **{**fields, **more})


def folder_registry(root: Path, *, cache: Path | None = None) -> SparseRegistry:
    """The registry in `root`, remembered beside it."""
    return SparseRegistry(FolderBucket(root, url=str(root)), cache=cache or root.with_name("cache"))


def program(text: str, *arguments: str) -> list[str]:
    """A Python program in a process of its own, with `release` and `folder_registry` at hand."""
    head = (
        "import sys; from pathlib import Path; from perfusion_registry.registries import *; "
        "from tests.registries.samples import *\n"
    )
    return [sys.executable, "-c", head + text, *arguments]
