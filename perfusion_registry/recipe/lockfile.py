"""The lockfile, `perfusion.lock`: every concept, the base and the covariance, to exact bytes.

The text is made for merging: sorted blocks, one field per line, no timestamps, no absolute paths, no hash of
the whole. `version` changes when an older perf could not read the file, `revision` when it can. Version 2
has methods; in memory a lockfile is always as version 2 has it, and it is written as version 1
(`lockfile1`) until it has to say something that version 1 cannot.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from perfusion_registry.recipe.base_section import BaseSection
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Constraint, Name, Sha256, Version
from perfusion_registry.recipe.recipe import DEFAULT_METHOD, MethodName

FORMAT_VERSION = 2
REVISIONS = {1: 1, 2: 2}
"""The newest revision of each version. Revision 1 of version 1 added concepts from registries and scene
packs, revision 1 of version 2 what `[base]` puts into a base, and concepts that are transferred, revision 2
its controls."""
REGISTRY = "registry+"
"""How the source of a concept from a registry begins; the registry's address follows."""
FORMAT_1_GATE = ("bias", "temperature", "key_lock")
"""The options that version 1 of lockfiles, and format 1 of releases, have of a concept: perfusion's."""

Part = Literal["vae", "unet", "scorer", "segmenter", "adapter", "embedding", "control"]
RenderValue = bool | int | float | str
"""One option of a method: what a prompt may set, with the concept's own value."""


class LockedFile(FileModel):
    """One file of the base: its path inside the base's folder, and its bytes.

    part: what it is to the base, where `[base]` names it; then path is as it is written there.
    """

    path: str
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]
    part: Part | None = None


class LockedBase(FileModel):
    """The base: where it comes from and the bytes of every file that matters.

    architecture: None for that of version 1. prediction: what its denoiser predicts, and whether its noise
    schedule ends in noise alone, where perfusion.toml says so. options: the rest of what `[base]` says.
    """

    repo: str
    revision: str | None = None
    family: str
    digest: str
    architecture: str | None = None
    prediction: Annotated[str, Field(pattern=r"^(epsilon|v_prediction)( zero_terminal_snr)?$")] | None = None
    options: Annotated[BaseSection | None, Field(exclude_if=lambda said: said is None)] = None
    files: Annotated[tuple[LockedFile, ...], Field(alias="file")] = ()


class LockedCovariance(FileModel):
    """The covariance C that the concepts were built with."""

    sha256: Sha256
    shape: tuple[int, int] | None = None
    corpus: str | None = None
    builder: str | None = None


class LockedConcept(FileModel):
    """One concept version: its source and the bytes of its artifact; or a scene pack and its bytes.

    method: how it is learned and drawn; of a scene pack it says nothing. source: the recipe, relative to the
    project; or `registry+` and the registry as the manifest names it. recipe_digest: of all inputs of a
    recipe; images and options are digests of parts of them, and only serve to say why a build is needed.
    transferred: the SHA-256 of the artifact that it was transferred from, learned on a base of another
    family; recipe_digest is then of that and of this base. sha256, size: of the artifact, once there is one;
    a registry's always is. requires: what else must be
    locked, and at which versions. render: what a prompt may set, with the concept's own values, as the method
    has them; a pack has none.
    """

    name: Name
    version: Version
    kind: Literal["concept", "pack"] = "concept"
    method: MethodName = DEFAULT_METHOD
    source: str
    recipe_digest: Sha256 | None = None
    images: Sha256 | None = None
    options: Sha256 | None = None
    transferred: Annotated[Sha256 | None, Field(exclude_if=lambda made: made is None)] = None
    sha256: Sha256 | None = None
    size: Annotated[int, Field(ge=0)] | None = None
    requires: dict[Name, Constraint] = Field(default_factory=dict)
    render: dict[str, RenderValue] = Field(default_factory=dict)

    @property
    def registry(self) -> str | None:
        """The registry that it comes from, as the manifest names it; None for a recipe of the project."""
        return self.source.removeprefix(REGISTRY) if self.source.startswith(REGISTRY) else None

    @property
    def fits_version_1(self) -> bool:
        """Whether version 1 can say it, but for options of perfusion that it leaves out."""
        if self.kind == "pack":
            return not self.render
        if self.transferred is not None:
            return False
        return self.method == DEFAULT_METHOD and self.render.keys() >= set(FORMAT_1_GATE)

    @model_validator(mode="after")
    def _whole(self) -> LockedConcept:
        wanted = set()
        if self.registry is not None:
            wanted |= {"sha256", "size"}
        elif self.kind == "concept":
            wanted |= {"recipe_digest", "images", "options"}
        missing = sorted(key for key in wanted if getattr(self, key) is None)
        if missing:
            raise ValueError(f"`{self.name}` lacks {', '.join(f'`{key}`' for key in missing)}")
        return self


class Lockfile(FileModel):
    """`perfusion.lock`."""

    version: int = 1
    revision: int = REVISIONS[1]
    base: LockedBase | None = None
    covariance: LockedCovariance | None = None
    concepts: Annotated[tuple[LockedConcept, ...], Field(alias="concept")] = ()

    def concept(self, name: str) -> LockedConcept | None:
        """The locked concept of that canonical name, or None."""
        return next((concept for concept in self.concepts if concept.name == name), None)

    def as_written(self) -> Lockfile:
        """The lockfile of the version that it is written as, without what that version does not say.

        It is 1 unless the lockfile is of another already, or has to be.
        """
        base = self.base
        plain = base is None or (
            base.architecture is None
            and base.prediction is None
            and base.options is None
            and all(file.part is None for file in base.files)
        )
        if self.version > 1 or not (plain and all(concept.fits_version_1 for concept in self.concepts)):
            options = base.options if base is not None else None
            newest = options is not None or any(concept.transferred for concept in self.concepts)
            needed = 2 if options is not None and options.controls else int(newest)
            revision = max(needed, self.revision if self.version > 1 else 0)
            return self.model_copy(update={"version": max(2, self.version), "revision": revision})
        concepts = tuple(
            concept.model_copy(
                update={"render": {key: concept.render[key] for key in FORMAT_1_GATE if concept.render}}
            )
            for concept in self.concepts
        )
        return self.model_copy(update={"concepts": concepts})
