"""`perf info`: what a concept says of itself, and which versions there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfusion_registry.cli.options import JsonOption, OfflineOption, ProjectOption, RegistryOption
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.registries.registry import Listing
    from perfusion_registry.registries.release import Release


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("info")(info)


@dataclass(frozen=True)
class Known:
    """What is known of a concept. registry: its name, or None for one that only has a recipe here.

    locked: the version that the project has locked. listings: of the registry, oldest version first.
    """

    name: str
    registry: str | None
    locked: str | None
    listings: Sequence[Listing]
    about: dict[str, Any]


def info(
    name: Annotated[
        str, typer.Argument(metavar="[REGISTRY/]NAME[==VERSION]", help="The concept.", show_default=False)
    ],
    registry: RegistryOption = None,
    offline: OfflineOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a concept says of itself, and its versions."""
    from perfusion_registry.cli import console

    known = _known(name, registry, project, offline=offline)
    versions = [
        {"version": one.version, "yanked": one.yanked, "reason": one.reason or None}
        for one in reversed(known.listings)
    ]
    if as_json:
        said = {"name": known.name, "registry": known.registry, "locked": known.locked}
        console.say_json("perf.info/1", {**said, **known.about, "versions": versions})
        return
    console.say(f"{known.name} {known.about['version']}")
    for key, value in known.about.items():
        if value not in (None, [], {}) and key != "version":
            told = ", ".join(map(str, value)) if isinstance(value, list) else value
            if isinstance(value, dict):
                told = ", ".join(f"{needed} {constraint}".rstrip() for needed, constraint in value.items())
            of = " (of its matrix; perfusion.lock has its file's)" if key == "covariance" else ""
            console.say(f"  {key.replace('_', ' '):<14} {_one_line(str(told))}{of}")
    if known.registry is not None:
        listed = [f"{one['version']}{' (yanked)' if one['yanked'] else ''}" for one in versions]
        console.say(f"  {'registry':<14} {known.registry}")
        console.say(f"  {'versions':<14} {', '.join(listed)}")
    if known.locked is not None:
        console.say(f"  {'locked':<14} {known.locked}")


def _known(text: str, registry: str | None, start: Path | None, *, offline: bool) -> Known:
    from perfusion_registry.recipe import canonical_name
    from perfusion_registry.resolve import Project

    spelt, _, version = text.partition("==")
    prefix, slash, bare = spelt.rpartition("/")
    name = canonical_name(bare.removesuffix("*"))
    registry = registry or (prefix if slash else None)
    try:
        project = Project.find(start, lock_alone=True)
    except PerfError:
        if registry is None or start is not None:
            raise
        project = None
    block = project.lockfile.concept(name) if project and project.lockfile else None
    entry = project.manifest.concepts.get(name) if project else None
    if project and entry and entry.recipe is not None and registry is None:
        return Known(name, None, block.version if block else None, (), _of_recipe(project, name))
    called, listings = _listings(project, name, registry, block.registry if block else None, start, offline)
    wanted = version or (block.version if block and block.registry else None)
    listing = _pick(listings, wanted)
    if listing is None:
        raise PerfError(
            f"`{called}` has no {name} {wanted}",
            hint=f"it has {', '.join(one.version for one in listings)}",
        )
    locked = block.version if block is not None and block.registry is not None else None
    return Known(name, called, locked, listings, _of_release(listing.release))


def _listings(
    project: Any, name: str, registry: str | None, locked_from: str | None, start: Path | None, offline: bool
) -> tuple[str, Sequence[Listing]]:
    """The registry of a name, as people call it, and all that it has of it."""
    from perfusion_registry.cli.registries import known_registries, sources_of

    named, root = known_registries(start, registry)
    sources = sources_of(named, root, offline=offline)
    entry = project.manifest.concepts.get(name) if project else None
    if registry is not None:
        place = next(iter(named.values()))
    elif entry is not None and entry.registry is not None:
        place = named[entry.registry]
    else:
        place = locked_from or sources.bind(name, None, str(project.manifest_path))
    listings = sources.listings(place, name)
    if not listings:
        raise PerfError(
            f"the registry `{sources.called(place)}` has no concept `{name}`",
            where=place,
            hint=f"try `perf search {name}`",
        )
    return sources.called(place), listings


def _pick(listings: Sequence[Listing], version: str | None) -> Listing | None:
    """The listing of a version; without one, the newest that is neither yanked nor a pre-release, if any."""
    from packaging.version import InvalidVersion

    from perfusion_registry.recipe.name import parsed_version

    if version is not None:
        try:
            wanted = parsed_version(version)
        except InvalidVersion as error:
            raise PerfError(f"`{version}` is not a version such as `1.0.0`") from error
        return next((one for one in listings if parsed_version(one.version) == wanted), None)
    good = [one for one in listings if not one.yanked]
    final = [one for one in good if not parsed_version(one.version).is_prerelease]
    return (final or good or list(listings))[-1]


def _of_release(release: Release) -> dict[str, Any]:
    return {
        "version": release.version,
        "kind": release.kind,
        "description": release.description,
        "supercategory": release.supercategory,
        "licence": release.licence,
        "base_licence": release.base_licence,
        "authors": list(release.authors),
        "consent": release.consent,
        "base": release.base,
        "family": release.family,
        "covariance": release.covariance,
        "requires": {need.name: need.version for need in release.requires},
        "bias": release.bias,
        "temperature": release.temperature,
        "key_lock": release.key_lock,
        "size": release.size,
        "sha256": release.sha256,
        "signed_by": release.signature.key if release.signature else None,
    }


def _of_recipe(project: Any, name: str) -> dict[str, Any]:
    from perfusion_registry.recipe import Pack
    from perfusion_registry.resolve.plan import shown

    found = project.declared(name)
    said = found.pack if isinstance(found, Pack) else found.concept
    return {
        "version": said.version,
        "kind": "pack" if isinstance(found, Pack) else "concept",
        "description": said.description,
        "supercategory": None if isinstance(found, Pack) else found.concept.supercategory,
        "licence": said.licence,
        "base_licence": None if isinstance(found, Pack) else _base_licence(project),
        "authors": list(said.authors),
        "consent": None if isinstance(found, Pack) else found.concept.consent,
        "requires": dict(found.pack.requires) if isinstance(found, Pack) else {},
        "scenes": sorted(found.scenes) if isinstance(found, Pack) else [],
        "recipe": shown(project.recipe_path(name), project.root),
    }


def _base_licence(project: Any) -> str | None:
    """The licence of the project's base, if it is on this machine."""
    from perfusion_registry.base import describe_base

    try:
        base = describe_base(project.manifest.project.base, root=project.root, allow_download=False)
    except PerfError:
        return None
    return base.licence


def _one_line(text: str) -> str:
    """What others wrote must not pass for lines of perf's own."""
    return " ".join(text.split())
