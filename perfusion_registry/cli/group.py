"""The command group: turns the package's errors into messages and exit codes, for every command alike."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from perfusion_registry.errors import PerfError

_WITHOUT_STORE = ("cache", "init", "key")
"""Commands that do not read the store, or that hold it in their own way."""


class Group(TyperGroup):
    """Exit codes: 0 done, 1 a check failed, 2 an error, 130 interrupted."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The group's own options, as `get_command` shows those of commands."""
        return _untyped(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command, its flags and arguments without a type in the help: `--json`, not `--json <bool>`."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            _untyped(command.get_params(ctx))
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help of `perf` is the overview; of a group inside it, the list of its commands."""
        if ctx.parent is None:
            from perfusion_registry.cli.overview import overview

            formatter.write(overview())
        else:
            super().format_help(ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """A command by its name; while it runs, no other process prunes the store."""
        found = super().resolve_command(ctx, args)
        if ctx.parent is None and not ctx.resilient_parsing and found[0] not in _WITHOUT_STORE:
            from perfusion_registry.artifact import cache_dir
            from perfusion_registry.artifact.hold import shared
            from perfusion_registry.cli import console

            ctx.with_resource(shared(cache_dir(), console.reporter(quiet=True)))
        return found

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a PerfError becomes its message, Ctrl-C one line."""
        from perfusion_registry.cli import console

        try:
            return super().invoke(ctx)
        except PerfError as error:
            console.show_error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            resumes = ctx.invoked_subcommand in ("build", "covariance", "evaluate")
            console.show_interrupt(ctx.invoked_subcommand if resumes else None)
            raise typer.Exit(130) from error


def _untyped(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
        if parameter.param_type_name == "argument":
            parameter.display_type_rich = lambda ctx: ""
    return parameters
