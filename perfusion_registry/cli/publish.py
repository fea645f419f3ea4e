"""`perf publish`, `perf yank`, `perf unyank`: what others can find in a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.completion import concept_names, registry_names
from perfusion_registry.cli.options import DryRunOption, JsonOption, ProjectOption

if TYPE_CHECKING:
    from perfusion_registry.cli.publishing import Place
    from perfusion_registry.registries import Release

TargetOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="NAME|URL",
        help="A registry of perfusion.toml, or an address.",
        show_default="`default`, or the only one",
        autocompletion=registry_names,
    ),
]
ReleaseArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME==VERSION",
        help="The published version; `studio/teddy==1.0.0` says of which registry.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("publish")(publish)
    app.command("yank")(yank)
    app.command("unyank")(unyank)


def publish(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME",
            help="Concepts or scene packs.",
            show_default=False,
            autocompletion=concept_names,
        ),
    ],
    registry: TargetOption = None,
    sign: Annotated[bool, typer.Option("--sign", help="Sign with the key of `perf key`.")] = False,
    dry_run: DryRunOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish built concepts: the very bytes that are locked.

    A published version never changes; publishing it again does nothing.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.publishing import find_place, prepare

    place = find_place(project, registry)
    ready = [prepare(project, name) for name in names]
    releases = [one.release for one in ready]
    if sign:
        from perfusion_registry.trust import signing_key

        key = signing_key()
        releases = [key.sign(release) for release in releases]
    opened = place.open()
    published = []
    for release, one in zip(releases, ready, strict=True):
        if not as_json:
            _show(release, place)
        new = None if dry_run else opened.publish(release, one.blob)
        published.append(new)
        if not as_json:
            console.say(_outcome(release, place, new))
    if as_json:
        rows = [
            {"release": release.model_dump(mode="json", exclude_none=True), "published": new}
            for release, new in zip(releases, published, strict=True)
        ]
        said = {"registry": place.url, "dry_run": dry_run, "releases": rows}
        console.say_json("perf.publish/1", said)


def yank(
    release: ReleaseArgument,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; everybody can read it.", show_default=False)
    ] = "",
    registry: TargetOption = None,
    dry_run: DryRunOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hide a published version from new locks.

    Locks that have it still work.
    """
    from perfusion_registry.cli.publishing import find_place, parse_release
    from perfusion_registry.registries.registry import published

    named, name, version = parse_release(release)
    place = find_place(project, registry or named)
    opened = place.open()
    if dry_run:
        changed = False if published(opened, name, version).yanked else None
    else:
        changed = opened.yank(name, version, reason=reason)
    _tell_yanked(place, f"{name} {version}", "yank", changed, as_json=as_json)


def unyank(
    release: ReleaseArgument,
    registry: TargetOption = None,
    dry_run: DryRunOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a yanked version again."""
    from perfusion_registry.cli.publishing import find_place, parse_release
    from perfusion_registry.registries.registry import published

    named, name, version = parse_release(release)
    place = find_place(project, registry or named)
    opened = place.open()
    if dry_run:
        changed = None if published(opened, name, version).yanked else False
    else:
        changed = opened.unyank(name, version)
    _tell_yanked(place, f"{name} {version}", "unyank", changed, as_json=as_json)


def _tell_yanked(place: Place, what: str, verb: str, changed: bool | None, *, as_json: bool) -> None:
    from perfusion_registry.cli import console

    if as_json:
        name, version = what.split(" ")
        said = {"registry": place.url, "name": name, "version": version, "changed": changed}
        console.say_json(f"perf.{verb}/1", said)
    elif changed is None:
        console.say(f"Would {verb} {what} in {place.name}")
    elif changed:
        console.say(f"{verb.capitalize()}ed {what} in {place.name}")
    else:
        console.say(f"{what} in {place.name} is {'yanked already' if verb == 'yank' else 'not yanked'}")


def _outcome(release: Release, place: Place, new: bool | None) -> str:
    what = f"{release.name} {release.version}"
    if new is None:
        return f"Would publish {what} to {place.name}"
    return f"Published {what} to {place.name}" if new else f"{what} is in {place.name} already"


def _show(release: Release, place: Place) -> None:
    """Everything that others will read of it, and what they may miss."""
    from perfusion_registry.cli import console
    from perfusion_registry.trust import fingerprint

    console.say(f"{release.name} {release.version} -> {place.name} ({place.url})")
    gate = f"bias {release.bias:g}, temperature {release.temperature:g}" if release.bias is not None else None
    requires = ", ".join(f"{need.name} {need.version}".strip() for need in release.requires)
    lines = {
        "what": release.description,
        "kind": "scene pack" if release.kind == "pack" else f"concept, a kind of {release.supercategory}",
        "requires": requires or None,
        "gate": gate,
        "licence": release.licence,
        "authors": ", ".join(release.authors),
        "consent": release.consent or ("nothing said" if release.kind == "concept" else None),
        "base": release.base,
        "base licence": release.base_licence or ("unknown" if release.base else None),
        "bytes": f"{console.size(release.size)}, sha256 {release.sha256}",
        "signed by": fingerprint(release.signature.key) if release.signature else None,
    }
    for label, text in lines.items():
        if text:
            console.say(f"  {label:<13}{text.replace(chr(10), chr(10) + ' ' * 15)}")
