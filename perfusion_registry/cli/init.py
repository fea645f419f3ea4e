"""`perf init`: begin a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import argument, option
from perfusion_registry.cli.options import BASE_HELP, JsonOption


def init(
    folder: Annotated[Path, argument("DIR", "Where to begin.", default="here")] = Path(),
    base: Annotated[str, option("BASE", BASE_HELP)] = "storybook",
    name: Annotated[str | None, option("NAME", "The project's name.", default="the folder's")] = None,
    as_json: JsonOption = False,
) -> None:
    """Begin a project: perfusion.toml and an example recipe.

    Also tells git to leave out what perf draws and reports.
    """
    from perfusion_registry.operations.init import init as run

    result = run(folder, base=base, name=name)
    if as_json:
        console.say_result(result)
        return
    console.say(f"Began `{result.name}` on the base {base}")
    console.say(f"Wrote {', '.join(result.written)}")
    if not result.base_here:
        console.say(f"{base} is not on this machine yet: PERF_ALLOW_DOWNLOAD=1 lets perf download it")
    console.say("Next: perf add NAME --super WORD --images GLOB")
