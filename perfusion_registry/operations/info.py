"""`info`: what a concept says of itself, and which versions there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_serializer
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from perfusion_registry.artifact.card import Imported
from perfusion_registry.artifact.verdict import Rating, Verdict
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.findings import findings
from perfusion_registry.operations.release_facts import check_preview, preview_of_recipe
from perfusion_registry.operations.result import Result, left_out_if_none, named
from perfusion_registry.operations.search import known_registries
from perfusion_registry.operations.workspace import Workspace, registries_of
from perfusion_registry.recipe import Pack, canonical_name
from perfusion_registry.recipe.lockfile import FORMAT_1_GATE, RenderValue
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version, parsed_version
from perfusion_registry.recipe.writing import make_folder, replace_bytes
from perfusion_registry.registries.download import fetch_preview
from perfusion_registry.registries.registry import Listing, Registry
from perfusion_registry.registries.release import Preview, Release
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.planning import shown

_OF_A_RECIPE = frozenset({"scenes", "recipe"})
_OF_A_RELEASE = frozenset(
    {
        *("base", "family", "covariance", "method", "render", *FORMAT_1_GATE),
        *("size", "sha256", "signed_by", "preview"),
    }
)


class ListedVersion(FileModel):
    """A version in a registry."""

    version: Version
    yanked: bool
    reason: str | None


class InfoResult(Result):
    """`perf info`: of a recipe what it says; of a registry's concept also what was built.

    registry: its name, or None for a concept that only has a recipe here. locked: the version that the
    project has locked. similarity: of its own word in the prompts that it was learned with, where its
    artifact is in the store and says it. energy: how much of the squared numbers of what was learned it
    keeps, likewise, where it is a difference. learned_on: the base that it was transferred from, where it
    was, and its artifact is in the store. imported: the file that it was made from, likewise. verdict: what
    its build found it good for, likewise; rating: that in a word, as in `perf.list`. sheet: the file of
    pictures that the build drew, where that was on this machine. versions: of the registry, newest first.
    """

    schema_: Literal["perf.info/1"] = named("perf.info/1")
    name: Name
    registry: str | None
    locked: Version | None
    version: Version
    kind: Literal["concept", "pack"]
    description: str | None
    supercategory: str | None
    licence: str | None
    base_licence: str | None = None
    authors: tuple[str, ...]
    consent: str | None
    base: str | None = None
    family: str | None = None
    covariance: str | None = None
    requires: dict[Name, str]
    scenes: tuple[str, ...] = ()
    recipe: str | None = None
    method: str | None = None
    render: dict[str, RenderValue] = Field(default_factory=dict)
    bias: float | None = None
    temperature: float | None = None
    key_lock: str | None = None
    size: int | None = None
    sha256: Sha256 | None = None
    signed_by: str | None = None
    preview: Preview | None = left_out_if_none()
    similarity: float | None = left_out_if_none()
    energy: float | None = left_out_if_none()
    learned_on: str | None = left_out_if_none()
    imported: Imported | None = left_out_if_none()
    rating: Rating | None = left_out_if_none()
    verdict: Verdict | None = left_out_if_none()
    sheet: str | None = left_out_if_none()
    versions: tuple[ListedVersion, ...]

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys that only the other kind, a recipe or a release, has."""
        other = _OF_A_RELEASE if self.registry is None else _OF_A_RECIPE
        return {key: value for key, value in handler(self).items() if key not in other}


def info(
    workspace: Workspace,
    name: str,
    *,
    version: str | None = None,
    registry: str | None = None,
    preview: Path | None = None,
    force: bool = False,
) -> InfoResult:
    """What a concept says of itself.

    name: may say the registry and the version too, as in `studio/teddy==1.2.0`, where they are not given
    apart. version: default the locked one, else the newest. registry: ask this one alone, as in
    `known_registries`. preview: a file for its preview picture, a JPEG; raises PerfError where it has none,
    or another file is there, which force overwrites.
    """
    spelt, _, named_version = name.partition("==")
    prefix, slash, bare = spelt.rpartition("/")
    name, version = canonical_name(bare.removesuffix("*")), version or named_version
    registry = registry or (prefix if slash else None)
    project = workspace.read() if registry is None else workspace.read_if_any()
    block = project.lockfile.concept(name) if project and project.lockfile else None
    entry = project.manifest.concepts.get(name) if project else None
    if project and entry and entry.recipe is not None and registry is None:
        if preview is not None:
            declared, path = project.declared(name), project.recipe_path(name)
            about = declared.pack if isinstance(declared, Pack) else declared.concept
            _save(preview, preview_of_recipe(path, about.preview), name, force=force)
        return InfoResult(
            name=name,
            registry=None,
            locked=block.version if block else None,
            versions=(),
            **findings(workspace.store, block.sha256 if block else None),
            **_of_recipe(workspace, project, name),
        )
    if project and entry is None and registry is None and not registries_of(project):
        raise project.unknown(name)
    source, called, listings = _listings(
        workspace, project, name, registry, block.registry if block else None
    )
    wanted = version or (block.version if block and block.registry else None)
    listing = _pick(listings, wanted)
    if listing is None:
        raise PerfError(
            f"`{called}` has no {name} {wanted}",
            hint=f"it has {', '.join(one.version for one in listings)}",
        )
    if preview is not None:
        picture = fetch_preview(source, listing.release, workspace.store, workspace.reporter)
        _save(preview, picture, name, force=force)
    locked = block.version if block is not None and block.registry is not None else None
    versions = tuple(
        ListedVersion(version=one.version, yanked=one.yanked, reason=one.reason or None)
        for one in reversed(listings)
    )
    return InfoResult(
        name=name,
        registry=called,
        locked=locked,
        versions=versions,
        **findings(workspace.store, listing.release.sha256),
        **_of_release(listing.release),
    )


def _listings(
    workspace: Workspace,
    project: ProjectFolder | None,
    name: str,
    registry: str | None,
    locked_from: str | None,
) -> tuple[Registry, str, Sequence[Listing]]:
    """The registry of a name, how people call it, and all that it has of it."""
    registries, root = known_registries(workspace, registry)
    sources = workspace.registries_at(root, registries)
    entry = project.manifest.concepts.get(name) if project else None
    if registry is not None:
        place = next(iter(registries.values()))
    elif entry is not None and entry.registry is not None:
        place = registries[entry.registry]
    else:
        place = locked_from or sources.bind(name, None, str(workspace.manifest_path))
    listings = sources.listings(place, name)
    if not listings:
        raise PerfError(
            f"the registry `{sources.called(place)}` has no concept `{name}`",
            where=place,
            hint=f"try `perf search {name}`",
        )
    return sources.registry(place), sources.called(place), listings


def _save(path: Path, preview: bytes | None, name: str, *, force: bool) -> None:
    """Write a preview, which somebody else may have published, where it is a JPEG that can be decoded."""
    if preview is None:
        raise PerfError(f"`{name}` has no preview picture", where=f"--preview {path}")
    check_preview(preview, name)
    if not force and path.exists() and (path.is_dir() or path.read_bytes() != preview):
        hint = "choose another name, or overwrite it with --force"
        raise PerfError("there is another file here already", where=f"--preview {path}", hint=hint)
    make_folder(path.parent)
    replace_bytes(path, preview)


def _pick(listings: Sequence[Listing], version: str | None) -> Listing | None:
    """The listing of a version; without one, the newest that is neither yanked nor a pre-release, if any."""
    from packaging.version import InvalidVersion

    if version is not None:
        try:
            wanted = parsed_version(version)
        except InvalidVersion as error:
            raise PerfError(f"`{version}` is not a version such as `1.0.0`") from error
        return next((listing for listing in listings if parsed_version(listing.version) == wanted), None)
    good = [listing for listing in listings if not listing.yanked]
    final = [listing for listing in good if not parsed_version(listing.version).is_prerelease]
    return (final or good or list(listings))[-1]


def _of_release(release: Release) -> dict[str, Any]:
    return {
        "version": release.version,
        "kind": release.kind,
        "description": release.description,
        "supercategory": release.supercategory,
        "licence": release.licence,
        "base_licence": release.base_licence,
        "authors": release.authors,
        "consent": release.consent,
        "base": release.base,
        "family": release.family,
        "covariance": release.covariance,
        "requires": {need.name: need.version for need in release.requires},
        "method": release.method,
        "render": release.render,
        **{key: release.render[key] for key in FORMAT_1_GATE if key in release.render},
        "size": release.size,
        "sha256": release.sha256,
        "preview": release.preview,
        "signed_by": release.signature.key if release.signature else None,
    }


def _of_recipe(workspace: Workspace, project: ProjectFolder, name: str) -> dict[str, Any]:
    declared = project.declared(name)
    about = declared.pack if isinstance(declared, Pack) else declared.concept
    facts = {
        "version": about.version,
        "description": about.description,
        "licence": about.licence,
        "authors": about.authors,
        "recipe": shown(project.recipe_path(name), project.root),
    }
    if isinstance(declared, Pack):
        requires, scenes = dict(declared.pack.requires), tuple(sorted(declared.scenes))
        kind = {"kind": "pack", "supercategory": None, "consent": None}
        return facts | kind | {"requires": requires, "scenes": scenes}
    concept = declared.concept
    kind = {"kind": "concept", "supercategory": concept.supercategory, "consent": concept.consent}
    return facts | kind | {"base_licence": _base_licence(workspace, project), "requires": {}}


def _base_licence(workspace: Workspace, project: ProjectFolder) -> str | None:
    """The licence of the project's base, if it is on this machine."""
    try:
        return workspace.base(project, download=False).licence
    except PerfError:
        return None
