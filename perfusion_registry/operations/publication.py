"""A release of what a project has, with its bytes, ready to be published."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePath

from perfusion_registry.artifact import ConceptCard, read_card
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.plan import plan_of
from perfusion_registry.operations.release_facts import preview_of_recipe
from perfusion_registry.operations.target import is_address
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import Pack, Recipe, dump_pack
from perfusion_registry.registries import LARGEST_BLOB, Registry, Release, RequiredConcept
from perfusion_registry.registries.registry import ensure_same, find_published
from perfusion_registry.registries.release import RELEASE_FORMAT, Preview
from perfusion_registry.resolve import ProjectFolder


@dataclass(frozen=True)
class Publication:
    """A release with its bytes, ready to be published. published: as it is out already."""

    release: Release
    blob: bytes
    preview: bytes | None = None
    published: Release | None = None

    def to(self, registry: Registry, release: Release | None = None) -> bool:
        """Publish it; False where it is there already. release: the same, signed."""
        if self.published is not None:
            ensure_same(self.published, release or self.release, registry.url)
            return False
        if self.preview is None:  # as backends of other distributions take it
            return registry.publish(release or self.release, self.blob)
        return registry.publish(release or self.release, self.blob, self.preview)


def prepare(workspace: Workspace, project: ProjectFolder, name: str, registry: Registry) -> Publication:
    """The release of a concept or a scene pack of the project, with its preview: the one that the registry
    shows, where the same bytes are out already.

    Raises PerfError where it is not built, or has changed since, or its preview is no picture.
    """
    made, declared = without_preview(workspace, project, name), project.declared(name)
    about = declared.pack if isinstance(declared, Pack) else declared.concept
    there = _same_bytes(registry, made.release)
    if about.preview is not None and there is not None and there.preview is not None:
        return _shown_as(there, made)
    return with_preview(workspace, made, project.recipe_path(name), declared)


def as_published(registry: Registry, made: Publication) -> Publication:
    """The same with the preview that its registry shows for its bytes, where they are out already: encoded
    anew, by another version of a library, a picture may have other bytes."""
    there = _same_bytes(registry, made.release)
    if there is None or None in (there.preview, made.release.preview):
        return made
    return _shown_as(there, made)


def _same_bytes(registry: Registry, release: Release) -> Release | None:
    """The release of that version in the registry, where its artifact is the same."""
    there = find_published(registry, release.name, release.version)
    return there.release if there is not None and there.release.sha256 == release.sha256 else None


def _shown_as(there: Release, made: Publication) -> Publication:
    shown = made.release.model_copy(update={"format": RELEASE_FORMAT, "preview": there.preview})
    return Publication(shown, made.blob, published=there)


def without_preview(workspace: Workspace, project: ProjectFolder, name: str) -> Publication:
    """The release of a concept or a scene pack, from the bytes that the lockfile names.

    Raises PerfError where it is not built, or has changed since.
    """
    declared = project.declared(name)
    if isinstance(declared, Pack):
        return pack_publication(project, declared)
    return _concept(workspace, project, name)


def with_preview(workspace: Workspace, made: Publication, path: Path, recipe: Recipe | Pack) -> Publication:
    """The release with the preview picture that its recipe names, where it names one."""
    about = recipe.pack if isinstance(recipe, Pack) else recipe.concept
    preview = preview_of_recipe(path, about.preview)
    if preview is None:
        return made
    if made.release.kind == "concept" and made.release.format == 1:
        workspace.reporter.warn(
            f"`{made.release.name}` {made.release.version} is of format 1, which has no previews: "
            f"it is published without one"
        )
        return made
    shown = Preview(sha256=hashlib.sha256(preview).hexdigest(), size=len(preview))
    release = made.release.model_copy(update={"format": RELEASE_FORMAT, "preview": shown})
    return Publication(release, made.blob, preview)


def concept_release(card: ConceptCard, blob: bytes) -> Release:
    """The release that a built concept's card tells of."""
    # A folder's path is of this machine, and may name its user: only its last part is published.
    base = PurePath(card.base).name if is_address(card.base) else card.base
    return Release(
        format=card.schema_version,
        name=card.name,
        version=card.version,
        sha256=hashlib.sha256(blob).hexdigest(),
        size=len(blob),
        family=card.family,
        covariance=card.covariance,
        base=f"{base}@{card.base_revision}" if card.base_revision else base,
        supercategory=card.supercategory,
        recipe_digest=card.recipe_digest,
        method=card.method,
        requires_perf=card.requires_perf,
        architecture=card.architecture,
        render=card.render.model_dump(mode="json"),
        licence=card.licence,
        base_licence=card.base_licence,
        authors=card.authors,
        consent=card.consent,
        description=card.description,
    )


def _concept(workspace: Workspace, project: ProjectFolder, name: str) -> Publication:
    (task,) = plan_of(workspace, project, [name]).plan.tasks
    locked = project.lockfile.concept(name) if project.lockfile else None
    if task.reason or locked is None or locked.sha256 is None:
        raise PerfError(
            f"`{name}` cannot be published as it is: {task.reason or 'it is not locked'}",
            where=str(project.lockfile_path),
            hint=f"run `perf build {name}`",
        )
    if locked.recipe_digest != task.digest:
        raise PerfError(
            f"`{name}` cannot be published as it is: its recipe has changed since it was locked",
            where=f"{project.lockfile_path}, concept {name}",
            hint=f"run `perf build {name}`, which locks what is built",
        )
    blob = workspace.store.get(locked.sha256)
    if len(blob) > LARGEST_BLOB:
        raise PerfError(f"the artifact of `{name}` has {len(blob):,} bytes; {LARGEST_BLOB:,} are allowed")
    card = read_card(blob)
    if (card.name, card.version, card.recipe_digest) != (name, locked.version, locked.recipe_digest):
        raise PerfError(
            f"the artifact locked for `{name}` is of {card.name} {card.version}, or of another recipe",
            where=f"{project.lockfile_path}, concept {name}",
            hint=f"run `perf build {name} --force`",
        )
    return Publication(concept_release(card, blob), blob)


def pack_publication(project: ProjectFolder, pack: Pack) -> Publication:
    """The release of a scene pack of the project; raises PerfError where it changed since it was locked."""
    blob, about = dump_pack(pack), pack.pack
    digest = hashlib.sha256(blob).hexdigest()
    locked = project.lockfile.concept(about.name) if project.lockfile else None
    if locked is not None and (locked.version, locked.sha256 or digest) != (about.version, digest):
        raise PerfError(
            f"the pack `{about.name}` has changed since it was locked",
            where=str(project.lockfile_path),
            hint="run `perf lock`",
        )
    release = Release(
        name=about.name,
        version=about.version,
        kind="pack",
        sha256=digest,
        size=len(blob),
        requires=tuple(
            RequiredConcept(name=name, version=about.requires[name]) for name in sorted(about.requires)
        ),
        licence=about.licence,
        authors=about.authors,
        description=about.description,
    )
    return Publication(release, blob)
