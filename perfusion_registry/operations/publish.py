"""`publish`, `yank`, `unyank`: what others can find in a registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import PlainSerializer

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.publication import prepare, without_preview
from perfusion_registry.operations.release_facts import (
    REQUIRED,
    FactsEdit,
    ReleaseFacts,
    edit_facts,
    says_more,
    unsaid_facts,
    write_facts,
)
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.target import RegistryTarget, find_target
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Version
from perfusion_registry.registries import Registry, Release
from perfusion_registry.registries.registry import ensure_same, ensure_same_bytes, find_published
from perfusion_registry.registries.registry import published as published_release
from perfusion_registry.registries.release import AnyRelease
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.planning import shown


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
    """A release. published: False where it was there already, None where nothing was done. out: whether the
    registry had it before.
    """

    release: Annotated[AnyRelease, PlainSerializer(_as_in_an_index)]
    published: bool | None
    out: InProcess[bool] = False


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

    A published version never changes; publishing it again does nothing, and a dry run says so. ask: called
    for what no registry does without, where neither a recipe nor the options say it, and for what else may be
    said beside it. before, after: called with each release when its turn comes, and when it is done.
    Raises PerfError where one of them is not built, or is out already and is another, or more is to be said
    of it, before anybody is asked; and where what is said is not enough, before anything is written.
    """
    target = find_target(workspace, options.registry)
    registry = target.open(workspace)
    key = None
    if options.sign:
        from perfusion_registry.trust import signing_key

        key = signing_key()
    project = workspace.read()
    names = project.select(options.names) if options.names else []
    edits = [_edit(workspace, project, target, registry, name, options, ask) for name in names]
    for edit in edits:
        if edit is not None:
            write_facts(workspace, edit)
    project = workspace.read()
    publications = [prepare(workspace, project, name, registry) for name in names]
    releases = [publication.release for publication in publications]
    if key is not None:
        releases = [key.sign(release) for release in releases]
    there = [_is_out(registry, release) for release in releases]
    rows = []
    for release, publication, out in zip(releases, publications, there, strict=True):
        if before is not None:
            before(release, target)
        new = None if options.dry_run else publication.to(registry, release)
        rows.append(Published(release=release, published=new, out=out))
        if after is not None:
            after(rows[-1], target)
    return PublishResult(registry=target.url, dry_run=options.dry_run, releases=tuple(rows))


def _is_out(registry: Registry, release: Release) -> bool:
    """Whether the registry has it. Raises AlreadyPublishedError where that is another."""
    there = find_published(registry, release.name, release.version)
    if there is not None:
        ensure_same(there.release, release, registry.url)
    return there is not None


def _edit(
    workspace: Workspace,
    project: ProjectFolder,
    target: RegistryTarget,
    registry: Registry,
    name: str,
    options: PublishOptions,
    ask: Ask | None,
) -> FactsEdit | None:
    """What is to be written into the recipe of a concept or scene pack, now that it goes out; None where it
    is out already.

    Raises PerfError where it cannot go out, with that or without.
    """
    facts, release = options.facts, without_preview(workspace, project, name).release
    there, version = find_published(registry, name, release.version), release.version
    if there is not None:
        ensure_same_bytes(there.release, release, registry.url)
        if says_more(project, name, facts):
            recipe = shown(project.recipe_path(name), project.root)
            raise PerfError(
                f"`{name}` {version} is out already, and what it says of itself stays as it is",
                where=target.url,
                hint=f"raise the version in {recipe}, or leave the options out",
            )
        return None
    unsaid = tuple(key for key in unsaid_facts(project, name) if not getattr(facts, key))
    if ask is not None and not options.dry_run and set(unsaid) & set(REQUIRED):
        facts = facts.over(ask(name, unsaid))
    return edit_facts(project, name, facts)


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
