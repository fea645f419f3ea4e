"""`perf key`: one's own signing key, and the keys of others that this machine knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli import console
from perfusion_registry.cli.group import group
from perfusion_registry.cli.help import argument, option
from perfusion_registry.cli.options import Common, JsonOption
from perfusion_registry.cli.publish import TargetOption
from perfusion_registry.cli.spread import spread

if TYPE_CHECKING:
    from perfusion_registry.operations.keys import KeyResult

NameArgument = Annotated[str, argument("NAME", "The concept.")]


def commands() -> typer.Typer:
    """The commands of the group."""
    about = "Sign what you publish; see whom you trust."
    return group(about, new=new, show=show, list=list_keys, trust=trust, forget=forget)


def new(as_json: JsonOption = False) -> None:
    """Make a signing key for `perf publish --sign`.

    There is one for each user of a machine. Keep a copy of the file: who knows your key will not take
    another for yours.
    """
    from perfusion_registry.operations.keys import new_key

    _tell(new_key(), "Made a signing key", as_json=as_json)


def show(as_json: JsonOption = False) -> None:
    """Show the public key that `perf publish --sign` signs with."""
    from perfusion_registry.operations.keys import show_key

    _tell(show_key(), "The signing key", as_json=as_json)


def list_keys(as_json: JsonOption = False) -> None:
    """List the publishers that this machine knows by their keys."""
    from perfusion_registry.operations.keys import list_keys as run

    result = run()
    if as_json:
        console.say_result(result)
        return
    if not result.keys:
        console.say("No keys yet: the first signed release of a name makes its key known")
        return
    rows = [[pin.name, pin.registry, pin.since, pin.fingerprint] for pin in result.keys]
    console.say_table(["concept", "registry", "since", "key"], rows)


@spread
def trust(
    common: Common,
    name: NameArgument,
    key: Annotated[str, argument("KEY", "64 hex digits, from `perf key show`.")],
    registry: TargetOption = None,
    since: Annotated[str, option("VERSION", "Lower versions may be unsigned.", default="all signed")] = "0",
) -> None:
    """Trust a key for a name of a registry, whatever was known before."""
    from packaging.version import InvalidVersion, Version

    from perfusion_registry.errors import PerfError
    from perfusion_registry.operations.keys import trust_key
    from perfusion_registry.trust import fingerprint

    try:
        lowest = str(Version(since))
    except InvalidVersion as error:
        raise PerfError(f"`{since}` is not a version", where="--since", hint="write 1.2.0") from error
    with common.open(optional=True) as workspace:
        result = trust_key(workspace, name, key, registry=registry, since=lowest)
    if common.as_json:
        console.say_result(result)
    else:
        console.say(f"Trusting {fingerprint(result.key)} for {result.name} of {result.registry}")


@spread
def forget(common: Common, name: NameArgument, registry: TargetOption = None) -> None:
    """Forget the key of a name.

    The next signed release makes its key known.
    """
    from perfusion_registry.operations.keys import forget_key

    with common.open(optional=True) as workspace:
        result = forget_key(workspace, name, registry=registry)
    if common.as_json:
        console.say_result(result)
    else:
        verb = "Forgot the key" if result.forgotten else "There was no key"
        console.say(f"{verb} of {result.name} of {result.registry}")


def _tell(result: KeyResult, title: str, *, as_json: bool) -> None:
    if as_json:
        console.say_result(result)
        return
    console.say(f"{title}: {result.source}")
    console.say(f"  public key   {result.public}")
    console.say(f"  fingerprint  {result.fingerprint}")
