"""The application: the commands put together."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from perfusion_registry.cli.group import Group
from perfusion_registry.cli.help import WIDTH, Command, flag
from perfusion_registry.cli.overview import COMMANDS, DESCRIPTION
from perfusion_registry.cli.spread import spread


def application(modules: Iterable[str] | None = None) -> typer.Typer:
    """`perf` with the commands of these modules (default: all); one command alone starts faster."""
    app = typer.Typer(
        name="perf",
        cls=Group,
        help=DESCRIPTION,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
    )
    app.callback()(_root)
    chosen = None if modules is None else set(modules)
    for name, place, _, _ in COMMANDS:
        module, _, function = place.partition(":")
        if chosen is None or module in chosen:
            command = getattr(import_module(f"perfusion_registry.cli.{module}"), function)
            if function == "commands":
                app.add_typer(command(), name=name)
            else:
                app.command(name, cls=Command)(spread(command))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from perfusion_registry.version import __version__

        print(f"perf {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, flag("Print the version.", "--version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass
