"""`perf init`: begin a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.help import argument, option
from perfusion_registry.cli.options import BASE_HELP, Standalone

if TYPE_CHECKING:
    from perfusion_registry.operations.init import InitResult


def init(
    output: Standalone,
    folder: Annotated[Path, argument("DIR", "Where to begin.", default="here")] = Path(),
    base: Annotated[str, option("BASE", BASE_HELP)] = "storybook",
    name: Annotated[str | None, option("NAME", "The project's name.", default="the folder's")] = None,
) -> None:
    """Begin a project: perfusion.toml and an example recipe.

    Also tells git to leave out what perf draws and reports.
    """
    from perfusion_registry.operations.init import init as run

    output.show(run(folder, base=base, name=name), lambda result: _tell(result, base))


def _tell(result: InitResult, base: str) -> None:
    console.say(f"Began `{result.name}` on the base {base}")
    console.say(f"Wrote {', '.join(result.written)}")
    if not result.base_here:
        console.say(f"{base} is not on this machine yet: {result.brought_by}")
    if result.untrainable is not None:
        console.say(f"To draw with alone: {result.untrainable}")
        console.say("Next: perf add REGISTRY/NAME, for a concept that was learned on a base of its family")
        return
    console.say("Next: perf add NAME --super WORD --images GLOB")
