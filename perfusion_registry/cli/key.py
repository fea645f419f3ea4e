"""`perf key`: one's own signing key, and the keys of others that this machine knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli import console
from perfusion_registry.cli.group import group
from perfusion_registry.cli.help import argument, option
from perfusion_registry.cli.options import Common, Standalone
from perfusion_registry.cli.publish import TargetOption

if TYPE_CHECKING:
    from perfusion_registry.operations.keys import KeyListResult, KeyResult

NameArgument = Annotated[str, argument("NAME", "The concept.")]


def commands() -> typer.Typer:
    """The commands of the group."""
    about = "Sign what you publish; see whom you trust."
    return group(about, new=new, show=show, list=list_keys, trust=trust, forget=forget)


def new(output: Standalone) -> None:
    """Make a signing key for `perf publish --sign`.

    There is one for each user of a machine. Keep a copy of the file: who knows your key will not take
    another for yours.
    """
    from perfusion_registry.operations.keys import new_key

    output.show(new_key(), lambda result: _tell(result, "Made a signing key"))


def show(output: Standalone) -> None:
    """Show the public key that `perf publish --sign` signs with."""
    from perfusion_registry.operations.keys import show_key

    output.show(show_key(), lambda result: _tell(result, "The signing key"))


def list_keys(output: Standalone) -> None:
    """List the publishers that this machine knows by their keys."""
    from perfusion_registry.operations.keys import list_keys as run

    output.show(run(), _tell_known)


def _tell_known(result: KeyListResult) -> None:
    rows = [[pin.name, pin.registry, pin.since, pin.fingerprint] for pin in result.keys]
    none = "No keys yet: the first signed release of a name makes its key known"
    console.say_table(["concept", "registry", "since", "key"], rows, empty=none)


def trust(
    common: Common,
    name: NameArgument,
    key: Annotated[str, argument("KEY", "64 hex digits, from `perf key show`.")],
    registry: TargetOption = None,
    since: Annotated[str, option("VERSION", "Lower versions may be unsigned.", default="all signed")] = "0",
) -> None:
    """Trust a key for a name of a registry, whatever was known before."""
    from perfusion_registry.operations.keys import trust_key
    from perfusion_registry.trust import fingerprint

    with common.open(optional=True) as workspace:
        result = trust_key(workspace, name, key, registry=registry, since=since)
    common.show(
        result,
        lambda known: console.say(f"Trusting {fingerprint(known.key)} for {known.name} of {known.registry}"),
    )


def forget(common: Common, name: NameArgument, registry: TargetOption = None) -> None:
    """Forget the key of a name.

    The next signed release makes its key known.
    """
    from perfusion_registry.operations.keys import forget_key

    with common.open(optional=True) as workspace:
        result = forget_key(workspace, name, registry=registry)
    verb = "Forgot the key" if result.forgotten else "There was no key"
    common.show(result, lambda known: console.say(f"{verb} of {known.name} of {known.registry}"))


def _tell(result: KeyResult, title: str) -> None:
    console.say(f"{title}: {result.source}")
    console.say(f"  public key   {result.public}")
    console.say(f"  fingerprint  {result.fingerprint}")
