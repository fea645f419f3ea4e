"""`publish`, `yank`, `unyank`: what others can find in a registry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer

from perfusion_registry.artifact import ConceptCard, read_card
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import read_recipe_or_pack
from perfusion_registry.operations.plan import plan_of
from perfusion_registry.operations.release_facts import (
    REQUIRED,
    ReleaseFacts,
    missing_facts,
    preview_of_recipe,
    refuse_missing,
    says_more,
    unsaid_facts,
    write_facts,
)
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.target import RegistryTarget, find_target, is_address
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import Pack, Recipe, dump_pack
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Version
from perfusion_registry.registries import LARGEST_BLOB, Registry, Release, RequiredConcept
from perfusion_registry.registries.registry import ensure_same, find_published
from perfusion_registry.registries.registry import published as published_release
from perfusion_registry.registries.release import RELEASE_FORMAT, AnyRelease, Preview
from perfusion_registry.resolve import ProjectFolder


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """What to publish. registry: by its name in the manifest, or its address; None for the project's one.

    sign: with the key of this machine. facts: of each of them, written into its recipe first.
    """

    names: tuple[str, ...]
    registry: str | None = None
    sign: bool = False
    dry_run: bool = False
    facts: ReleaseFacts = field(default_factory=ReleaseFacts)

    def __post_init__(self) -> None:
        """Raise PerfError for facts that a dry run would have to write."""
        if self.dry_run and self.facts != ReleaseFacts():
            raise PerfError(
                "licence, authors and the like are written into the recipe, and a dry run writes nothing",
                hint="leave them out, or leave out --dry-run",
            )


def _as_in_an_index(release: Release) -> dict[str, Any]:
    return release.model_dump(mode="json", exclude_none=True)


class Published(FileModel):
    """A release. published: False where it was there already, None where nothing was done."""

    release: Annotated[AnyRelease, PlainSerializer(_as_in_an_index)]
    published: bool | None


class PublishResult(Result):
    """`perf publish`. registry: its address."""

    schema_: Literal["perf.publish/1"] = named("perf.publish/1")
    registry: str
    dry_run: bool
    releases: tuple[Published, ...]


class YankResult(Result):
    """`perf yank`, `perf unyank`. changed: None where nothing was done."""

    schema_: Literal["perf.yank/1", "perf.unyank/1"] = named("perf.yank/1")
    registry: str
    name: Name
    version: Version
    changed: bool | None
    target: InProcess[RegistryTarget]


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


Ask = Callable[[str, tuple[str, ...]], ReleaseFacts]
"""Asks a person: for the name of a concept or scene pack, what is to be said of it, by these keys."""


def publish(
    workspace: Workspace,
    options: PublishOptions,
    *,
    ask: Ask | None = None,
    before: Callable[[Release, RegistryTarget], None] | None = None,
    after: Callable[[Published, RegistryTarget], None] | None = None,
) -> PublishResult:
    """Publish built concepts and scene packs: the very bytes that are locked.

    A published version never changes; publishing it again does nothing. ask: called for what no registry does
    without, where neither a recipe nor the options say it, and for what else may be said beside it. before,
    after: called with each release when its turn comes, and when it is done. Raises PerfError before anything
    is written where a version is out already and more is to be said of it.
    """
    target = find_target(workspace, options.registry)
    registry = target.open(workspace)
    names = workspace.read().select(options.names) if options.names else []
    for name in names:
        facts = _facts(workspace, target, registry, name, options, ask)
        if facts != ReleaseFacts():
            write_facts(workspace, name, facts)
    project = workspace.read()
    publications = [as_published(registry, prepare(workspace, project, name)) for name in names]
    releases = [publication.release for publication in publications]
    if options.sign:
        from perfusion_registry.trust import signing_key

        key = signing_key()
        releases = [key.sign(release) for release in releases]
    rows = []
    for release, publication in zip(releases, publications, strict=True):
        if before is not None:
            before(release, target)
        new = None if options.dry_run else publication.to(registry, release)
        rows.append(Published(release=release, published=new))
        if after is not None:
            after(rows[-1], target)
    return PublishResult(registry=target.url, dry_run=options.dry_run, releases=tuple(rows))


def _facts(
    workspace: Workspace,
    target: RegistryTarget,
    registry: Registry,
    name: str,
    options: PublishOptions,
    ask: Ask | None,
) -> ReleaseFacts:
    """What is to be written into the recipe of a concept or scene pack, now that it goes out."""
    project, facts = workspace.read(), options.facts
    declared = project.declared(name)
    version = (declared.pack if isinstance(declared, Pack) else declared.concept).version
    if find_published(registry, name, version) is not None:
        if says_more(project, name, facts):
            raise PerfError(
                f"`{name}` {version} is out already, and what it says of itself stays as it is",
                where=target.url,
                hint=f"raise the version in {project.recipe_path(name)}, or leave the options out",
            )
        return ReleaseFacts()
    unsaid = tuple(key for key in unsaid_facts(project, name) if not getattr(facts, key))
    if ask is not None and not options.dry_run and set(unsaid) & set(REQUIRED):
        facts = facts.over(ask(name, unsaid))
    return facts


def as_published(registry: Registry, made: Publication) -> Publication:
    """The same with the preview that its registry shows for its bytes, where they are out already: encoded
    anew, by another version of a library, a picture may have other bytes."""
    release = made.release
    there = find_published(registry, release.name, release.version)
    if there is None or there.release.sha256 != release.sha256:
        return made
    if None in (there.release.preview, release.preview) or there.release.preview == release.preview:
        return made
    shown = release.model_copy(update={"preview": there.release.preview})
    return Publication(shown, made.blob, made.preview, published=there.release)


def yank(
    workspace: Workspace,
    name: str,
    version: str,
    *,
    registry: str | None = None,
    reason: str = "",
    dry_run: bool = False,
) -> YankResult:
    """Hide a published version from new locks; those with it still work. registry: as in `find_target`."""
    target = find_target(workspace, registry)
    opened = target.open(workspace)
    if dry_run:
        changed = False if published_release(opened, name, version).yanked else None
    else:
        changed = opened.yank(name, version, reason=reason)
    return YankResult(registry=target.url, name=name, version=version, changed=changed, target=target)


def unyank(
    workspace: Workspace, name: str, version: str, *, registry: str | None = None, dry_run: bool = False
) -> YankResult:
    """Show a yanked version again. registry: as in `find_target`."""
    target = find_target(workspace, registry)
    opened = target.open(workspace)
    if dry_run:
        changed = None if published_release(opened, name, version).yanked else False
    else:
        changed = opened.unyank(name, version)
    return YankResult(
        schema_="perf.unyank/1",
        registry=target.url,
        name=name,
        version=version,
        changed=changed,
        target=target,
    )


def prepare(workspace: Workspace, project: ProjectFolder, name: str) -> Publication:
    """The release of a concept or a scene pack of the project, from the bytes that its lockfile names.

    Raises PerfError where it is not built, has changed since, or its card lacks what a registry needs.
    """
    (name,) = project.select([name])
    path = project.recipe_path(name)
    recipe = read_recipe_or_pack(path)
    made = (
        pack_publication(project, recipe) if isinstance(recipe, Pack) else _concept(workspace, project, name)
    )
    missing = missing_facts(project, name)
    if missing:
        table = "pack" if isinstance(recipe, Pack) else "concept"
        raise refuse_missing(name, f"{path}, {table}", missing)
    return with_preview(workspace, made, path, recipe)


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
