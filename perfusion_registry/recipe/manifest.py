"""The manifest, `perfusion.toml`: the concepts, base, registries and scenes of a project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from perfusion_registry.recipe.base_section import BaseSection
from perfusion_registry.recipe.document import parse_toml, read_text, validate
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Constraint, Name, canonical_name
from perfusion_registry.recipe.scene import FindSettings, Scene, keys_set, with_scenes

MANIFEST_NAME = "perfusion.toml"
LOCKFILE_NAME = "perfusion.lock"
_REGISTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ProjectSection(FileModel):
    """`[project]`: the project's name and the base its concepts are built for."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    base: Annotated[
        str, Field(min_length=1, description="`storybook`, `owner/name@revision`, a folder or a file.")
    ] = "storybook"
    covariance: Annotated[
        str | None, Field(description="A covariance file, relative to the project; default: the base's own.")
    ] = None


class ConceptEntry(FileModel):
    """One entry of `[concepts]`: built from a recipe here, or resolved from a registry by version."""

    recipe: str | None = None
    version: Constraint | None = None
    registry: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ConceptEntry:
        if (self.recipe is None) == (self.version is None):
            raise ValueError("give either `recipe` (a file) or `version` (a constraint), not both or neither")
        if self.registry is not None and self.version is None:
            raise ValueError("`registry` goes with `version`; a recipe is built here")
        return self


class Manifest(FileModel):
    """`perfusion.toml`; concepts are keyed by their canonical names."""

    project: ProjectSection
    base: Annotated[BaseSection, Field(exclude_if=lambda said: said == BaseSection())] = BaseSection()
    concepts: dict[Name, ConceptEntry] = Field(default_factory=dict)
    registries: dict[str, str] = Field(default_factory=dict)
    scenes: dict[str, Scene] = Field(default_factory=dict)

    @field_validator("concepts", mode="before")
    @classmethod
    def _distinct(cls, concepts: Any) -> Any:
        if isinstance(concepts, dict):
            seen: dict[str, str] = {}
            for key in concepts:
                folded = re.sub("[-_]+", "-", key)
                if folded in seen:
                    raise ValueError(f"`{seen[folded]}` and `{key}` are one name (`-` and `_` are folded)")
                seen[folded] = key
        return concepts

    @field_validator("registries")
    @classmethod
    def _shareable(cls, registries: dict[str, str]) -> dict[str, str]:
        for name, url in registries.items():
            if not _REGISTRY_NAME.fullmatch(name):
                raise ValueError(f"`{name}` cannot name a registry: letters, digits, `-`, `_` and `.`")
            if re.match(r"[A-Za-z0-9+.-]+://[^/@]*:[^/@]*@", url):
                raise ValueError(
                    f"the address of `{name}` holds a password, and this file is shared; "
                    "put it into the environment or ~/.netrc"
                )
        return registries

    @model_validator(mode="after")
    def _known_registries(self) -> Manifest:
        for name, entry in self.concepts.items():
            if entry.registry is not None and entry.registry not in self.registries:
                raise ValueError(f"`{name}` names the registry `{entry.registry}`, which [registries] lacks")
        return self


def parse_manifest(text: str, find: FindSettings, *, where: str) -> Manifest:
    """Check the text of a manifest; every mistake in it is in the one PerfError that is raised.

    find: what scenes may set.
    """
    data = parse_toml(text, where, "manifest")
    model = with_scenes(Manifest, find(keys_set(data)))
    return validate(data, model, text=text, where=where, kind="manifest")


def read_manifest(path: Path, find: FindSettings) -> Manifest:
    """Read a manifest and check it as `parse_manifest` does."""
    return parse_manifest(read_text(path, "manifest"), find, where=str(path))


__all__ = [
    "LOCKFILE_NAME",
    "MANIFEST_NAME",
    "ConceptEntry",
    "Manifest",
    "ProjectSection",
    "canonical_name",
    "parse_manifest",
    "read_manifest",
]
