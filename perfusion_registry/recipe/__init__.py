"""Manifest, recipe and lockfile: the models of the files and their reading and writing."""

from perfusion_registry.recipe.lockfile import (
    LockedBase,
    LockedConcept,
    LockedCovariance,
    LockedFile,
    Lockfile,
)
from perfusion_registry.recipe.lockfile_text import read_lockfile, write_lockfile
from perfusion_registry.recipe.manifest import (
    LOCKFILE_NAME,
    MANIFEST_NAME,
    ConceptEntry,
    GateOverride,
    Manifest,
    ProjectSection,
    Scene,
    read_manifest,
)
from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.recipe.options import (
    RenderOptions,
    RenderSection,
    TrainOptions,
    TrainSection,
    resolve_render,
    resolve_train,
)
from perfusion_registry.recipe.pack import Pack, PackSection, dump_pack, parse_pack, read_recipe_or_pack
from perfusion_registry.recipe.recipe import ConceptSection, Recipe, read_recipe

__all__ = [
    "LOCKFILE_NAME",
    "MANIFEST_NAME",
    "ConceptEntry",
    "ConceptSection",
    "GateOverride",
    "LockedBase",
    "LockedConcept",
    "LockedCovariance",
    "LockedFile",
    "Lockfile",
    "Manifest",
    "Pack",
    "PackSection",
    "ProjectSection",
    "Recipe",
    "RenderOptions",
    "RenderSection",
    "Scene",
    "TrainOptions",
    "TrainSection",
    "canonical_name",
    "dump_pack",
    "parse_pack",
    "read_lockfile",
    "read_manifest",
    "read_recipe",
    "read_recipe_or_pack",
    "resolve_render",
    "resolve_train",
    "write_lockfile",
]
