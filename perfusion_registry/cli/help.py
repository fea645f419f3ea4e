"""What `perf COMMAND --help` shows: the options stand by what they are about."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import typer
from typer.core import TyperCommand

from perfusion_registry.cli.style import heading, styled, term

OPTIONS = "Options"
GATES = "Gates"
PICTURE = "Picture"
LOCKFILE = "Lockfile and network"
GENERAL = "General"
PANELS = (OPTIONS, GATES, PICTURE, LOCKFILE, GENERAL)
"""What options are about, in the order of help."""

UsageError: Any = typer.BadParameter.__base__
"""What typer raises for a mistake on the command line, and does not name itself."""
Completion = Callable[[str], Any]
WIDTH = 100
"""Columns of help at most: longer lines are harder to read."""


def option(
    metavar: str,
    text: str,
    *names: str,
    panel: str | None = None,
    default: bool | str = True,
    completion: Completion | None = None,
    **more: Any,
) -> Any:
    """An option that takes a value. metavar: what the value is. text: its help. names: if not `--` and the
    parameter's own. default: whether help shows it, or what it says in its place. more: as typer has it."""
    return typer.Option(
        *names,
        metavar=metavar,
        help=text,
        rich_help_panel=panel,
        show_default=default,
        show_envvar=False,
        autocompletion=completion,
        **more,
    )


gate_option = partial(option, panel=GATES)
picture_option = partial(option, panel=PICTURE)
"""Options about gates, and about the picture."""


def flag(text: str, *names: str, panel: str | None = None, **more: Any) -> Any:
    """An option that is said or not, as `option` has them."""
    return typer.Option(*names, help=text, rich_help_panel=panel, show_envvar=False, **more)


lockfile_flag = partial(flag, panel=LOCKFILE)
"""A flag about the lockfile and the network."""


def argument(
    metavar: str,
    text: str,
    *,
    default: bool | str = True,
    completion: Completion | None = None,
    **more: Any,
) -> Any:
    """An argument, as `option` has options."""
    return typer.Argument(metavar=metavar, help=text, show_default=default, autocompletion=completion, **more)


class Command(TyperCommand):
    """A command whose help is laid out in panels."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read what was given; a mistake says whose it is, which one in a value that is missing does not."""
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """`Usage: perf remove [OPTIONS] NAME...`."""
        pieces = [re.sub(r"^\{(.*)\}", r"\1", piece) for piece in self.collect_usage_pieces(ctx)]
        prefix = heading("Usage:", styled=styled()) + " "
        formatter.write_usage(ctx.command_path, " ".join(pieces), prefix)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The arguments, then every panel of options."""
        colours = styled()
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{panel: [] for panel in PANELS}}
        for parameter in self.get_params(ctx):
            told = _told(parameter, ctx)
            if told is not None:
                panels[_panel(parameter)].append((term(told[0], styled=colours), told[1]))
        for panel, rows in panels.items():
            if rows:
                with formatter.section(heading(panel, styled=colours)):
                    formatter.write_dl(rows)


def _panel(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    default = GENERAL if parameter.name == "help" else OPTIONS
    return str(parameter.rich_help_panel or default) if hasattr(parameter, "rich_help_panel") else default


def _told(parameter: Any, ctx: Any) -> tuple[str, str] | None:
    """An option or argument, and what is said of it.

    Types go without saying, defaults without brackets of their own, another spelling that is taken too not at
    all; which arguments are required is in the usage line.
    """
    if getattr(parameter, "is_flag", False) and parameter.metavar is None:
        parameter.metavar = ""
    record = parameter.get_help_record(ctx)
    if record is None:
        return None
    name, text = record[0].replace("--licence, --license", "--licence"), record[1]
    if parameter.param_type_name == "argument":
        name = re.sub(r" <[^ ]*>$", "", name)
        text = text.removesuffix("[required]").rstrip()
    return name.strip(), re.sub(r"\[default: \((.*)\)(?=[;\]])", r"[default: \1", text)
