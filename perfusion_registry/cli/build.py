"""`perf build`: turn recipes into artifacts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfusion_registry.cli.completion import concept_names
from perfusion_registry.cli.options import (
    DeviceOption,
    DryRunOption,
    DtypeOption,
    JobsOption,
    JsonOption,
    LockedOption,
    ProjectOption,
    QuietOption,
)
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.cli.construction import Built
    from perfusion_registry.cli.planning import Survey


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build")(build)


def build(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="The concepts to build.", show_default="all", autocompletion=concept_names
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build even what is up to date.")] = False,
    supercategory: Annotated[
        list[str] | None,
        typer.Option(
            "--super",
            metavar="NAME=WORD",
            help="Build it under another supercategory than its recipe's, into --out, and lock nothing.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --super: the .safetensors file to write.", show_default=False
        ),
    ] = None,
    locked: LockedOption = False,
    jobs: JobsOption = 1,
    dry_run: DryRunOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    project: ProjectOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the concepts whose inputs changed, and lock them.

    A build that is interrupted resumes where it was.
    """
    begun = time.monotonic()
    from perfusion_registry.cli import console
    from perfusion_registry.cli.locking import stale
    from perfusion_registry.cli.planning import survey
    from perfusion_registry.recipe import write_lockfile
    from perfusion_registry.resolve import changes_of, lock
    from perfusion_registry.resolve.choice import must_choose

    if supercategory:
        from perfusion_registry.cli.substitution import Substitution

        wanted = Substitution.read(supercategory, names, out)
        found = wanted.survey(project, force=force)
        if dry_run:
            _tell_plan(found, time.monotonic() - begun, as_json=as_json, dry_run=True)
            return
        from perfusion_registry.cli.construction import Computing

        built = wanted.carry_out(found, Computing(device, dtype), console.reporter(quiet))
        _tell_built(found, built, time.monotonic() - begun, as_json=as_json, out=out)
        return
    if out is not None:
        raise PerfError(
            "a build of a recipe goes into the store and the lockfile, not into a file",
            where=f"--out {out}",
            hint="leave it out; with --super NAME=WORD there is a file to write",
        )
    found = survey(project, names, force=force)
    after = lock(found.project, found.plan, found.store)
    changes = changes_of(found.project, after)
    if locked:
        why = must_choose(found.project, found.plan)
        why += [change for change in changes if change not in why]
        if why:
            raise stale(why, str(found.project.lockfile_path))
    if dry_run or not found.plan.needed:
        if changes and not dry_run:
            write_lockfile(found.project.lockfile_path, after)
        _tell_plan(found, time.monotonic() - begun, as_json=as_json, dry_run=dry_run)
        return
    from perfusion_registry.cli.construction import Computing, construct

    computing = Computing(device, dtype)
    built = construct(found, computing, locked=locked, jobs=jobs, reporter=console.reporter(quiet))
    _tell_built(found, built, time.monotonic() - begun, as_json=as_json)


def _tell_plan(found: Survey, seconds: float, *, as_json: bool, dry_run: bool) -> None:
    from perfusion_registry.cli import console

    current = [task.name for task in found.plan.tasks if not task.reason]
    if as_json:
        needed = [{"name": task.name, "reason": task.reason} for task in found.plan.needed]
        said = {"needed": needed, "built": [], "up_to_date": current, "seconds": round(seconds, 3)}
        console.say_json("perf.build/1", said)
        return
    if not found.plan.tasks:
        console.say("Nothing to build: the project has no concepts yet (perf add NAME --super WORD)")
    elif not found.plan.needed:
        are = "1 concept is" if len(current) == 1 else f"{len(current)} concepts are"
        console.say(f"Nothing to build: {are} up to date ({seconds:.2f} s)")
    for task in found.plan.needed:
        console.say(f"Would build {task.name} {task.recipe_version}: {task.reason}")
    if dry_run and found.plan.needed and current:
        console.say(f"Up to date: {', '.join(current)}")


def _tell_built(
    found: Survey, built: list[Built], seconds: float, *, as_json: bool, out: Path | None = None
) -> None:
    """out: the one file that was written instead of the lockfile."""
    from perfusion_registry.cli import console

    current = [task.name for task in found.plan.tasks if not task.reason]
    if as_json:
        said = {
            "needed": [],
            "built": [_row(one) for one in built],
            "up_to_date": current,
            "seconds": round(seconds, 3),
            "out": str(out) if out else None,
        }
        console.say_json("perf.build/1", said)
        return
    if built:
        _tell_table(built, seconds, len(current))
    if out is not None:
        task = found.plan.tasks[0]
        console.say(f"Wrote {out}: {task.name} as {task.recipe.concept.supercategory}; nothing is locked")
        console.say(f"Next: perf render 'a {task.name}*' --with {out}")


def _tell_table(built: list[Built], seconds: float, current: int) -> None:
    from perfusion_registry.cli import console

    cells = [
        [
            one.task.name,
            one.task.recipe_version,
            one.task.reason if one.trained else f"{one.task.reason} (no training)",
            console.duration(one.seconds),
            console.size(one.size),
            f"{one.card.steps_kept}/{one.card.train.steps}",
            *(_score(one, name) for name in _SCORES),
        ]
        for one in built
    ]
    columns = ["concept", "version", "why", "time", "size", "step", *_SCORES]
    console.say_table(columns, cells, right=["time", "size", "step", *_SCORES])
    if any(one.card.scores for one in built):
        console.say(
            "image: likeness to your pictures; text: to the prompts, 1 is what the plain word reaches"
        )
    rest = f"; {current} up to date" if current else ""
    count = "1 concept" if len(built) == 1 else f"{len(built)} concepts"
    console.say(f"Built {count} in {console.duration(seconds)}{rest}")


_SCORES = ("image", "text")
"""Of the kept step, as the table has room for them; `--json` and the card have all."""


def _score(one: Built, name: str) -> str:
    score = one.card.scores.get(name)
    return "" if score is None else f"{score:.3f}"


def _row(one: Built) -> dict[str, Any]:
    return {
        "name": one.task.name,
        "version": one.task.recipe_version,
        "reason": one.task.reason,
        "trained": one.trained,
        "seconds": round(one.seconds, 3),
        "sha256": one.sha256,
        "size": one.size,
        "steps_kept": one.card.steps_kept,
        "scores": one.card.scores,
    }
