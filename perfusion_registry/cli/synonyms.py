"""What was meant by an option or a command that other tools have, and how it is written here."""

from __future__ import annotations

import re
from typing import Any

from perfusion_registry.other_tools import COMMANDS, told


def synonym(error: Any, where: str) -> str | None:
    """How what was meant by an unknown option or command is written here; None where nobody can say.

    error: typer's. where: the command, such as `perf render`.
    """
    option = getattr(error, "option_name", None)
    if option is not None:
        meant = told(option, where)
        known = {name for parameter in error.ctx.command.params for name in parameter.opts}
        return meant if meant and known.issuperset(re.findall(r"--[a-z-]+", meant)) else None
    extra = re.match(r"Got unexpected extra argument.*? \((.*)\)", error.format_message(), re.DOTALL)
    if extra is not None and any(one.name == "prompt" for one in error.ctx.command.params):
        return f'put the prompt into quotes: {where} "{error.ctx.params.get("prompt") or "a"} {extra[1]}"'
    command = re.match(r"No such command '([^']*)'", error.format_message())
    return COMMANDS.get(command[1]) if command and where == "perf" else None
