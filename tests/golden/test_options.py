"""No option of a command is lost: what every command took before its walls moved, it takes still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import typer
from typer.main import get_command

from perfusion_registry.cli import app

OPTIONS = Path(__file__).parent / "format1" / "options.txt"
"""A line for each parameter of each command as of b3d9827: the command, then all names of the parameter."""


def parameters(command: Any, name: str, context: Any) -> Iterator[str]:
    if hasattr(command, "list_commands"):
        for part in command.list_commands(context):
            yield from parameters(command.get_command(context, part), f"{name} {part}", context)
    else:
        for parameter in command.params:
            yield " ".join([name, *parameter.opts, *parameter.secondary_opts])


def test_every_command_takes_what_it_took() -> None:
    command: Any = get_command(app) if isinstance(app, typer.Typer) else app
    now = set(parameters(command, "perf", click.Context(command)))
    assert not set(OPTIONS.read_text(encoding="utf-8").splitlines()) - now
