"""`perf add`, `perf remove`, `perf list`: the concepts of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from perfusion_registry.cli import console
from perfusion_registry.cli.completion import concept_names
from perfusion_registry.cli.help import argument, flag, option
from perfusion_registry.cli.options import Common, OfflineOption
from perfusion_registry.cli.style import RATINGS

if TYPE_CHECKING:
    from perfusion_registry.operations.add import AddResult
    from perfusion_registry.operations.concepts import ListResult, RemoveResult
    from perfusion_registry.operations.outdated import OutdatedResult


def add(
    common: Common,
    name: Annotated[str, argument("[REGISTRY/]NAME", "How prompts call it: NAME*.")],
    supercategory: Annotated[
        str | None,
        option("WORD", "The plain word it is a kind of (teddy, cat, pot).", "--super"),
    ] = None,
    more: Annotated[list[str] | None, argument("IMAGE", "More images.")] = None,
    images: Annotated[list[str] | None, option("GLOB", "Its pictures.", default="recipes/NAME/*")] = None,
    copy: Annotated[bool, flag("Copy the pictures to recipes/NAME/.", "--copy")] = False,
    version: Annotated[
        str | None,
        option(
            "VERSION",
            "Its version; or, of a registry's, the constraint: '>=1,<2'.",
            default="1.0.0, or what fits the newest",
        ),
    ] = None,
    registry: Annotated[
        str | None,
        option("NAME|URL", "Take it from this registry; an address is written down under REGISTRY."),
    ] = None,
    bias: Annotated[float | None, option("B", "Its gate's bias in prompts: lower is more of it.")] = None,
    temperature: Annotated[float | None, option("T", "Its gate's temperature in prompts.")] = None,
    steps: Annotated[int | None, option("N", "Training steps at most.")] = None,
    seed: Annotated[int | None, option("N", "Seed of the training.")] = None,
    flip: Annotated[bool | None, flag("Whether mirrored pictures look right.", "--flip/--no-flip")] = None,
    method: Annotated[str | None, option("NAME", "How it is learned and drawn.", default="perfusion")] = None,
    options: Annotated[
        list[str] | None,
        option(
            "KEY=VALUE",
            "Any other option of its method: residual_rank=.05, train.bias=.7, render.key_lock=global.",
            "--set",
        ),
    ] = None,
    offline: OfflineOption = False,
) -> None:
    """Declare a concept: built here (--super), or from a registry.

    A recipe of that name in recipes/ that perfusion.toml does not list, as `perf remove` leaves one, is taken
    as it is.
    """
    from perfusion_registry.operations.declare import declare, read_addition

    addition = read_addition(
        name,
        version=version,
        registry=registry,
        supercategory=supercategory,
        images=(*(images or ()), *(more or ())),
        copy=copy or None,
        bias=bias,
        temperature=temperature,
        steps=steps,
        seed=seed,
        flip=flip,
        method=method or None,
        options=options or (),
    )
    with common.open(offline=offline) as workspace:
        result = declare(workspace, addition)
    common.show(result, lambda result: _tell_added(result, supercategory))


def _tell_added(result: AddResult, supercategory: str | None) -> None:
    if result.recipe is None:
        console.say(f"Added {result.name} {result.version}, at present {result.resolved}")
        console.say("Next: perf sync")
    elif result.pictures is None:
        console.say(f"Added {result.name}, with the recipe that is there: {result.recipe}")
        console.say("Next: perf build")
    else:
        pictures = console.count(result.pictures or 0, "picture")
        console.say(f"Added {result.name} ({supercategory}, {pictures}): {result.recipe}")
        if any(Path(pattern).is_absolute() for pattern in result.images or ()):
            console.say("The pictures lie outside the project; --copy would have kept them with it.")
        console.say("Next: perf build")


def remove(
    common: Common,
    names: Annotated[list[str], argument("NAME", "The concepts.", completion=concept_names)],
) -> None:
    """Take concepts out of perfusion.toml and perfusion.lock.

    Their recipes stay.
    """
    from perfusion_registry.operations.concepts import remove as run

    with common.open() as workspace:
        result = run(workspace, names)
    common.show(result, _tell_removed)


def _tell_removed(result: RemoveResult) -> None:
    for name in result.removed:
        recipe = result.recipes.get(name)
        stays = f"; its recipe {recipe} stays, and `perf add {name}` takes it again" if recipe else ""
        console.say(f"Removed {name}{stays}")
    for scene, name in result.scenes:
        console.reporter().warn(f"the scene `{scene}` still calls `{name}`")


def list_concepts(
    common: Common,
    outdated: Annotated[
        bool, flag("Show what registries have newer than what is locked.", "--outdated")
    ] = False,
    offline: OfflineOption = False,
) -> None:
    """Show the project's concepts and what a build would do."""
    from perfusion_registry.operations.concepts import list_concepts as run
    from perfusion_registry.operations.outdated import outdated as compare

    with common.open(offline=offline, lockfile_alone=not outdated) as workspace:
        if outdated:
            common.show(compare(workspace), _tell_outdated)
        else:
            common.show(run(workspace), _tell_listed)


def _tell_listed(result: ListResult) -> None:
    cells = [
        [
            row.name,
            row.version,
            row.supercategory,
            row.state,
            "" if row.size is None else console.size(row.size),
            row.rating or "",
            row.source,
        ]
        for row in result.concepts
    ]
    console.say_table(
        ["concept", "version", "super", "state", "size", "verdict", "source"],
        cells,
        right=["size"],
        styles=RATINGS,
        empty="No concepts yet: perf add NAME --super WORD --images GLOB",
    )
    if result.problem:
        console.reporter().warn(result.problem)


def _tell_outdated(result: OutdatedResult) -> None:
    cells = [
        [
            row.name,
            row.locked + (" (yanked)" if row.yanked else ""),
            row.allowed or "",
            row.latest or "",
            row.registry,
        ]
        for row in result.concepts
    ]
    columns = ["concept", "locked", "allowed", "latest", "registry"]
    console.say_table(columns, cells, empty="Nothing is outdated")
    if any(row.allowed not in (None, row.locked) for row in result.concepts):
        console.say("Next: perf lock --upgrade")
