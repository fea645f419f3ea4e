"""The command line. A module of `COMMANDS` has `register(app)` and imports only light things at its top."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from perfusion_registry.cli.group import Group

COMMANDS = (
    "init",
    "concepts",
    "lock",
    "sync",
    "build",
    "covariance",
    "compose",
    "render",
    "publish",
    "cache",
    "key",
)
"""The modules of this package that add commands, in the order in which `perf --help` shows them."""

PROJECT_PANEL = "Project"
BUILD_PANEL = "Build"
PROMPT_PANEL = "Prompts and pictures"
REGISTRY_PANEL = "Registries"
STORE_PANEL = "Store and trust"

app = typer.Typer(
    name="perf",
    cls=Group,
    help="Personal concepts for text-to-image models: declare, build, lock, compose, render.",
    epilog="Begin with `perf init`; `perf COMMAND --help` explains a command.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from perfusion_registry import __version__

        print(f"perf {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for _module in COMMANDS:
    import_module(f"{__name__}.{_module}").register(app)


def main() -> None:
    """The entry point of `perf` and `perfusion`."""
    app()
