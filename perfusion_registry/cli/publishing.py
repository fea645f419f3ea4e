"""From a concept of the project to a release, and to the registry that it goes to."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from perfusion_registry.artifact import ConceptCard, cache_dir, read_card
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import Pack, canonical_name, dump_pack, read_recipe_or_pack
from perfusion_registry.recipe.document import nearest
from perfusion_registry.registries import LARGEST_BLOB, Registry, Release, Requirement
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.resolve import Project

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:|[.~]?[/\\]|\.\.?(?:[/\\]|\Z)|[a-zA-Z]:[/\\]")


@dataclass(frozen=True)
class Place:
    """A registry as a command names it. name: as the manifest calls it. root: where a folder begins."""

    name: str
    url: str
    root: Path

    def open(self, *, offline: bool = False) -> Registry:
        """The registry."""
        return open_registry(self.url, name=self.name, root=self.root, cache=cache_dir(), offline=offline)

    @property
    def identity(self) -> str:
        """What known keys are kept under."""
        from perfusion_registry.trust import registry_identity

        return registry_identity(self.url, self.root)


@dataclass(frozen=True)
class Publication:
    """A release with its bytes, ready to be published."""

    release: Release
    blob: bytes


def find_place(start: Path | None, wanted: str | None) -> Place:
    """The registry that `--registry` names: by its name in the manifest, or by its address.

    Left out, it is the one called `default`, or the only one. An address needs no project.
    """
    if wanted is not None and _ADDRESS.match(wanted):
        return Place(_called(start, wanted), wanted, Path.cwd())
    project = Project.find(start)
    registries = project.manifest.registries
    if wanted is None:
        wanted = "default" if "default" in registries else next(iter(registries), None)
        if wanted is None or (len(registries) > 1 and wanted != "default"):
            named = ", ".join(f"`{name}`" for name in sorted(registries))
            raise PerfError(
                f"the project has several registries: {named}" if named else "the project has no registry",
                where=f"{project.manifest_path}, registries",
                hint="choose with --registry NAME"
                if named
                else 'add one: [registries] studio = "https://..." (or a folder)',
            )
    if wanted not in registries:
        near = nearest(wanted, list(registries))
        raise PerfError(
            f"the project has no registry `{wanted}`",
            where=f"{project.manifest_path}, registries",
            hint=f"did you mean `{near}`?"
            if near
            else "give a name there, or an address (./folder, https://)",
        )
    return Place(wanted, registries[wanted], project.root)


def prepare(start: Path | None, name: str) -> Publication:
    """The release of a concept or a scene pack of the project, from the bytes that its lockfile names.

    Raises PerfError where it is not built, has changed since, or its card lacks what a registry needs.
    """
    project = Project.find(start)
    (name,) = project.select([name])
    path = project.recipe_path(name)
    recipe = read_recipe_or_pack(path)
    made = pack_publication(project, recipe) if isinstance(recipe, Pack) else _concept(start, name)
    told = {"licence": made.release.licence, "authors": made.release.authors}
    missing = [key for key, said in told.items() if not said]
    if missing:
        table = "pack" if isinstance(recipe, Pack) else "concept"
        examples = {"licence": 'licence = "CC-BY-4.0"', "authors": 'authors = ["You <you@example.org>"]'}
        raise PerfError(
            f"`{name}` cannot be published without {' and '.join(missing)}",
            where=f"{path}, {table}",
            hint=f"add {' and '.join(examples[key] for key in missing)}, then run `perf build {name}`; "
            "nothing is trained for that",
        )
    return made


def concept_release(card: ConceptCard, blob: bytes) -> Release:
    """The release that a built concept's card tells of."""
    # Where a folder lies is nobody's business.
    base = PurePath(card.base).name if _ADDRESS.match(card.base) else card.base
    return Release(
        name=card.name,
        version=card.version,
        sha256=hashlib.sha256(blob).hexdigest(),
        size=len(blob),
        family=card.family,
        covariance=card.covariance,
        base=f"{base}@{card.base_revision}" if card.base_revision else base,
        supercategory=card.supercategory,
        recipe_digest=card.recipe_digest,
        bias=card.render.bias,
        temperature=card.render.temperature,
        key_lock=card.render.key_lock,
        licence=card.licence,
        base_licence=card.base_licence,
        authors=card.authors,
        consent=card.consent,
        description=card.description,
    )


def _concept(start: Path | None, name: str) -> Publication:
    from perfusion_registry.cli.planning import survey

    found = survey(start, [name])
    (task,) = found.plan.tasks
    locked = found.project.lockfile.concept(name) if found.project.lockfile else None
    if task.reason or locked is None or locked.sha256 is None:
        raise PerfError(
            f"`{name}` cannot be published as it is: {task.reason or 'it is not locked'}",
            where=str(found.project.lockfile_path),
            hint=f"run `perf build {name}`",
        )
    blob = found.store.get(locked.sha256)
    if len(blob) > LARGEST_BLOB:
        raise PerfError(f"the artifact of `{name}` has {len(blob):,} bytes; {LARGEST_BLOB:,} are allowed")
    card = read_card(blob)
    if (card.name, card.version, card.recipe_digest) != (name, locked.version, locked.recipe_digest):
        raise PerfError(
            f"the artifact locked for `{name}` is of {card.name} {card.version}, or of another recipe",
            where=f"{found.project.lockfile_path}, concept {name}",
            hint=f"run `perf build {name} --force`",
        )
    return Publication(concept_release(card, blob), blob)


def pack_publication(project: Project, pack: Pack) -> Publication:
    """The release of a scene pack of the project; raises PerfError where it changed since it was locked."""
    blob, said = dump_pack(pack), pack.pack
    digest = hashlib.sha256(blob).hexdigest()
    locked = project.lockfile.concept(said.name) if project.lockfile else None
    if locked is not None and (locked.version, locked.sha256 or digest) != (said.version, digest):
        raise PerfError(
            f"the pack `{said.name}` has changed since it was locked",
            where=str(project.lockfile_path),
            hint="run `perf lock`",
        )
    release = Release(
        name=said.name,
        version=said.version,
        kind="pack",
        sha256=digest,
        size=len(blob),
        requires=tuple(Requirement(name=name, version=said.requires[name]) for name in sorted(said.requires)),
        licence=said.licence,
        authors=said.authors,
        description=said.description,
    )
    return Publication(release, blob)


def parse_release(text: str) -> tuple[str | None, str, str]:
    """`NAME==VERSION` or `REGISTRY/NAME==VERSION`: the registry, if one is said, the name and the version."""
    from packaging.version import InvalidVersion, Version

    spelt, _, version = text.partition("==")
    registry, slash, name = spelt.strip().rpartition("/")
    try:
        if slash and (not registry or _ADDRESS.match(registry)):
            raise InvalidVersion(registry)
        return registry or None, canonical_name(name), str(Version(version))
    except InvalidVersion as error:
        raise PerfError(
            f"`{text}` does not name a release",
            hint=f"write `{name or 'NAME'}==VERSION`, and an address as --registry ADDRESS",
        ) from error


def _called(start: Path | None, url: str) -> str:
    """What the project around calls the registry at an address, for its credentials; else `default`."""
    try:
        registries = Project.find(start).manifest.registries
    except PerfError:
        return "default"
    return next((name for name, known in registries.items() if known == url), "default")
