"""`perf doctor`: whether this machine and this project have what perf needs."""

from __future__ import annotations

from typing import Annotated

import typer

from perfusion_registry.cli.options import JsonOption, ProjectOption
from perfusion_registry.errors import CheckFailedError

_SIGNS = {"ok": "ok", "note": "note", "broken": "BROKEN"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    online: Annotated[
        bool, typer.Option("--online", help="Also ask whether the project's registries answer.")
    ] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Examine this machine and this project.

    Python, torch, devices, store, base, lockfile, registries.
    Exits with 1 when something is broken. Opens no socket without --online.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.cli.examination import examine

    found = examine(project, online=online)
    broken = [one for one in found if one.state == "broken"]
    if as_json:
        rows = [{"what": one.what, "state": one.state, "told": one.told, "hint": one.hint} for one in found]
        console.say_json("perf.doctor/1", {"healthy": not broken, "findings": rows})
    else:
        rows_told = []
        for one in found:
            rows_told.append([_SIGNS[one.state], one.what, one.told])
            if one.hint:
                rows_told.append(["", "", f"next: {one.hint}"])
        console.say_table(["", "what", "found"], rows_told)
    if broken:
        raise CheckFailedError(
            f"{len(broken)} {'thing is' if len(broken) == 1 else 'things are'} broken: "
            + ", ".join(one.what for one in broken)
        )
