"""`perf key`: one's own signing key, and the keys of others that this machine knows."""

from __future__ import annotations

from typing import Annotated

import typer

from perfusion_registry.cli.group import Group
from perfusion_registry.cli.options import JsonOption, ProjectOption
from perfusion_registry.cli.publish import TargetOption

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The concept.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    key = typer.Typer(
        cls=Group,
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Sign what you publish; see whom you trust.",
    )
    key.command("new")(new)
    key.command("show")(show)
    key.command("list")(list_keys)
    key.command("trust")(trust)
    key.command("forget")(forget)
    app.add_typer(key, name="key")


def new(as_json: JsonOption = False) -> None:
    """Make a signing key for `perf publish --sign`.

    There is one for each user of a machine. Keep a copy of the file: who knows your key will not take
    another for yours.
    """
    from perfusion_registry.trust.key import key_path, new_key

    made = new_key(key_path())
    _tell(made.public, made.source, "Made a signing key", as_json=as_json)


def show(as_json: JsonOption = False) -> None:
    """Show the public key that `perf publish --sign` signs with."""
    from perfusion_registry.trust import signing_key

    found = signing_key()
    _tell(found.public, found.source, "The signing key", as_json=as_json)


def list_keys(as_json: JsonOption = False) -> None:
    """List the publishers that this machine knows by their keys."""
    from perfusion_registry.cli import console
    from perfusion_registry.trust import KnownKeys, fingerprint
    from perfusion_registry.trust.known import keys_path

    pins = KnownKeys(keys_path()).pins()
    if as_json:
        rows = [{**pin.model_dump(mode="json"), "fingerprint": fingerprint(pin.key)} for pin in pins]
        console.say_json("perf.key-list/1", {"path": str(keys_path()), "keys": rows})
        return
    if not pins:
        console.say("No keys yet: the first signed release of a name makes its key known")
        return
    rows_told = [[pin.name, pin.registry, pin.since, fingerprint(pin.key)] for pin in pins]
    console.say_table(["concept", "registry", "since", "key"], rows_told)


def trust(
    name: NameArgument,
    key: Annotated[
        str,
        typer.Argument(metavar="KEY", help="64 hex digits, from `perf key show`.", show_default=False),
    ],
    registry: TargetOption = None,
    since: Annotated[
        str,
        typer.Option(metavar="VERSION", help="Lower versions may be unsigned.", show_default="all signed"),
    ] = "0",
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust a key for a name of a registry, whatever was known before."""
    from packaging.version import InvalidVersion, Version

    from perfusion_registry.cli import console
    from perfusion_registry.cli.publishing import find_place
    from perfusion_registry.errors import PerfError
    from perfusion_registry.recipe import canonical_name
    from perfusion_registry.trust import KnownKeys, Pin, fingerprint, read_public_key
    from perfusion_registry.trust.known import keys_path

    try:
        lowest = str(Version(since))
    except InvalidVersion as error:
        raise PerfError(f"`{since}` is no version", where="--since", hint="write 1.2.0") from error
    place = find_place(project, registry)
    pin = Pin(registry=place.identity, name=canonical_name(name), key=read_public_key(key), since=lowest)
    KnownKeys(keys_path()).replace(pin)
    if as_json:
        console.say_json("perf.key-trust/1", pin.model_dump(mode="json"))
    else:
        console.say(f"Trusting {fingerprint(pin.key)} for {pin.name} of {pin.registry}")


def forget(
    name: NameArgument,
    registry: TargetOption = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget the key of a name.

    The next signed release makes its key known.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.publishing import find_place
    from perfusion_registry.recipe import canonical_name
    from perfusion_registry.trust import KnownKeys
    from perfusion_registry.trust.known import keys_path

    place, folded = find_place(project, registry), canonical_name(name)
    known = KnownKeys(keys_path()).forget(place.identity, folded)
    if as_json:
        said = {"registry": place.identity, "name": folded, "forgotten": known}
        console.say_json("perf.key-forget/1", said)
    else:
        told = "Forgot the key" if known else "There was no key"
        console.say(f"{told} of {folded} of {place.identity}")


def _tell(public: str, source: str, title: str, *, as_json: bool) -> None:
    from perfusion_registry.cli import console
    from perfusion_registry.trust import fingerprint

    if as_json:
        said = {"public": public, "fingerprint": fingerprint(public), "source": source}
        console.say_json("perf.key/1", said)
        return
    console.say(f"{title}: {source}")
    console.say(f"  public key   {public}")
    console.say(f"  fingerprint  {fingerprint(public)}")
