"""The command group: turns mistakes and interrupts into messages and exit codes, for every command alike."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from perfusion_registry.cli.help import GENERAL, Command, UsageError
from perfusion_registry.cli.interrupt import INTERRUPTED, interruptible
from perfusion_registry.cli.spread import spread
from perfusion_registry.cli.style import heading, styled, term
from perfusion_registry.cli.synonyms import synonym
from perfusion_registry.errors import PerfError
from perfusion_registry.extras import lacking
from perfusion_registry.memory import REFUSED, short_of_memory


class Group(TyperGroup):
    """Exit codes: 0 done, 1 a check failed, 2 an error, 130 or 143 interrupted."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help of `perf` is the overview; of a group inside it, the list of its commands."""
        if ctx.parent is None:
            from perfusion_registry.cli.overview import overview

            formatter.write(overview(styled=styled()))
            return
        colours = styled()
        usage = heading("Usage:", styled=colours) + " "
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", usage)
        self.format_help_text(ctx, formatter)
        rows = [
            (term(name, styled=colours), (self.commands[name].help or "").split("\n")[0])
            for name in self.list_commands(ctx)
        ]
        with formatter.section(heading("Commands", styled=colours)):
            formatter.write_dl(rows)
        with formatter.section(heading(GENERAL, styled=colours)):
            formatter.write_dl([(term("-h, --help", styled=colours), "Show this message and exit.")])

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read what stands before the command."""
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            raise _refused(error, ctx) from error

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a mistake becomes its message, Ctrl-C one line."""
        from perfusion_registry.cli import console

        try:
            with interruptible():
                return super().invoke(ctx)
        except UsageError as error:
            raise _refused(error, ctx) from error
        except (PerfError, *REFUSED) as error:
            known = error if isinstance(error, PerfError) else lacking(error) or short_of_memory(error)
            if known is None:
                raise
            console.show_error(known)
            raise typer.Exit(known.exit_code) from error
        except KeyboardInterrupt as error:
            console.show_interrupt(ctx.invoked_subcommand)
            raise typer.Exit(getattr(error, "exit_code", INTERRUPTED)) from error


def group(about: str, **commands: Callable[..., None]) -> typer.Typer:
    """A command that has commands of its own, by their names. about: its help."""
    made = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None, help=about)
    for name, command in commands.items():
        made.command(name, cls=Command)(spread(command))
    return made


def _refused(error: Any, ctx: Any) -> BaseException:
    """What to raise for a mistake on the command line, once it is told; a plain request for help stays."""
    from perfusion_registry.cli import console

    if type(error).__name__ == "NoArgsIsHelpError":
        return error  # type: ignore[no-any-return]
    where = getattr(error.ctx or ctx, "command_path", "perf")
    known = synonym(error, where)
    what = error.format_message().rstrip(".")
    if known is not None:  # an option that is only spelt alike would lead astray
        what = re.sub(r"[.:]? ?\(?(Did you mean|Possible options).*", "", what)
    console.show_error(PerfError(what, where=where, hint=known or f"`{where} --help` tells what it takes"))
    return typer.Exit(error.exit_code)
