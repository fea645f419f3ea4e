"""The command group: turns mistakes and interrupts into messages and exit codes, for every command alike."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from perfusion_registry.cli.help import GENERAL
from perfusion_registry.cli.interrupt import INTERRUPTED, interruptible
from perfusion_registry.cli.style import heading, styled, term
from perfusion_registry.errors import PerfError

_UsageError: Any = typer.BadParameter.__base__
"""What typer raises for a mistake on the command line, and does not name itself."""

_WITHOUT_STORE = ("cache", "init", "key")
"""Commands that do not read the store, or that hold it in their own way."""


class Group(TyperGroup):
    """Exit codes: 0 done, 1 a check failed, 2 an error, 130 interrupted."""

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
        except _UsageError as error:
            raise _refused(error, ctx) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A command by its name; while it runs, no other process prunes the store."""
        found = super().resolve_command(ctx, args)
        if ctx.parent is None and not ctx.resilient_parsing and found[0] not in _WITHOUT_STORE:
            from perfusion_registry.artifact import cache_dir
            from perfusion_registry.artifact.locking import read_lock
            from perfusion_registry.cli import console

            ctx.with_resource(read_lock(cache_dir(), console.reporter(quiet=True)))
        return found

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a mistake becomes its message, Ctrl-C one line."""
        from perfusion_registry.cli import console

        try:
            with interruptible():
                return super().invoke(ctx)
        except _UsageError as error:
            raise _refused(error, ctx) from error
        except PerfError as error:
            console.show_error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            resumes = ctx.invoked_subcommand in ("build", "covariance", "evaluate")
            console.show_interrupt(ctx.invoked_subcommand if resumes else None)
            raise typer.Exit(INTERRUPTED) from error


def _refused(error: Any, ctx: Any) -> BaseException:
    """What to raise for a mistake on the command line, once it is told; a plain request for help stays."""
    from perfusion_registry.cli import console

    if type(error).__name__ == "NoArgsIsHelpError":
        return error  # type: ignore[no-any-return]
    where = getattr(error.ctx or ctx, "command_path", "perf")
    what = error.format_message().rstrip(".")
    console.show_error(PerfError(what, where=where, hint=f"`{where} --help` tells what it takes"))
    return typer.Exit(error.exit_code)
