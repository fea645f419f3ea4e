"""Manifest, recipe and lockfile: the models of the files and their reading and writing.

Writing a file needs no models, so every name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazy import lazy_exports

if TYPE_CHECKING:
    from perfusion_registry.recipe.base_section import BaseSection as BaseSection
    from perfusion_registry.recipe.lockfile import LockedBase as LockedBase
    from perfusion_registry.recipe.lockfile import LockedConcept as LockedConcept
    from perfusion_registry.recipe.lockfile import LockedCovariance as LockedCovariance
    from perfusion_registry.recipe.lockfile import LockedFile as LockedFile
    from perfusion_registry.recipe.lockfile import Lockfile as Lockfile
    from perfusion_registry.recipe.lockfile_text import read_lockfile as read_lockfile
    from perfusion_registry.recipe.lockfile_text import write_lockfile as write_lockfile
    from perfusion_registry.recipe.manifest import LOCKFILE_NAME as LOCKFILE_NAME
    from perfusion_registry.recipe.manifest import MANIFEST_NAME as MANIFEST_NAME
    from perfusion_registry.recipe.manifest import ConceptEntry as ConceptEntry
    from perfusion_registry.recipe.manifest import Manifest as Manifest
    from perfusion_registry.recipe.manifest import ProjectSection as ProjectSection
    from perfusion_registry.recipe.name import canonical_name as canonical_name
    from perfusion_registry.recipe.pack import Pack as Pack
    from perfusion_registry.recipe.pack import PackSection as PackSection
    from perfusion_registry.recipe.pack import dump_pack as dump_pack
    from perfusion_registry.recipe.recipe import ConceptSection as ConceptSection
    from perfusion_registry.recipe.recipe import Recipe as Recipe
    from perfusion_registry.recipe.scene import Scene as Scene

_HOME = {
    "BaseSection": "base_section",
    "ConceptEntry": "manifest",
    "ConceptSection": "recipe",
    "LOCKFILE_NAME": "manifest",
    "LockedBase": "lockfile",
    "LockedConcept": "lockfile",
    "LockedCovariance": "lockfile",
    "LockedFile": "lockfile",
    "Lockfile": "lockfile",
    "MANIFEST_NAME": "manifest",
    "Manifest": "manifest",
    "Pack": "pack",
    "PackSection": "pack",
    "ProjectSection": "manifest",
    "Recipe": "recipe",
    "Scene": "scene",
    "canonical_name": "name",
    "dump_pack": "pack",
    "read_lockfile": "lockfile_text",
    "write_lockfile": "lockfile_text",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME)
