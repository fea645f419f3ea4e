"""`perf add`, `perf remove`, `perf list`: the concepts of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfusion_registry.cli.completion import concept_names
from perfusion_registry.cli.options import JsonOption, OfflineOption, ProjectOption
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from perfusion_registry.resolve import Project


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("add")(add)
    app.command("remove")(remove)
    app.command("list")(list_concepts)


def add(
    name: Annotated[
        str,
        typer.Argument(metavar="[REGISTRY/]NAME", help="How prompts call it: NAME*.", show_default=False),
    ],
    supercategory: Annotated[
        str | None,
        typer.Option(
            "--super",
            metavar="WORD",
            help="The plain word it is a kind of (teddy, cat, pot), for one that is built here.",
            show_default=False,
        ),
    ] = None,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE", help="More images.", show_default=False)
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Its pictures.", show_default="recipes/NAME/*"),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the pictures to recipes/NAME/.")] = False,
    version: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="Its version; or, of a registry's, the constraint: '>=1,<2'.",
            show_default="1.0.0, or what fits the newest",
        ),
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|URL",
            help="Take it from this registry; an address is written down under REGISTRY.",
            show_default=False,
        ),
    ] = None,
    bias: Annotated[
        float | None,
        typer.Option(
            metavar="B", help="Its gate's bias in prompts: lower is more of it.", show_default=False
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="Its gate's temperature in prompts.", show_default=False)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Training steps at most.", show_default=False)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of the training.", show_default=False)
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Whether mirrored pictures look right.", show_default=False),
    ] = None,
    offline: OfflineOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Declare a concept: built here (--super), or from a registry."""
    if registry is not None or "/" in name or (supercategory is None and not images and not more):
        from perfusion_registry.cli.adding import add_from_registry

        given = (supercategory, images, more, bias, temperature, steps, seed, flip)
        if copy or any(option is not None for option in given):
            raise PerfError(
                f"`{name}` comes from a registry, so images and training options have no use",
                hint="leave them out, or leave out the registry",
            )
        add_from_registry(name, version, registry, project, offline=offline, as_json=as_json)
        return
    if supercategory is None:
        raise PerfError(
            "a concept that is built here needs its supercategory", where="--super", hint="--super teddy"
        )
    version = version or "1.0.0"
    from perfusion_registry.cli import console
    from perfusion_registry.cli.pictures import check_pictures, patterns
    from perfusion_registry.cli.schemas import place_schemas
    from perfusion_registry.recipe import Recipe, canonical_name
    from perfusion_registry.recipe.document import parse_toml, read_text, validate
    from perfusion_registry.recipe.editing import add_concept, new_recipe
    from perfusion_registry.recipe.writing import make_folder, replace_text
    from perfusion_registry.resolve import Project

    found = Project.find(project)
    folded = canonical_name(name)
    recipe = found.root / "recipes" / f"{folded}.toml"
    if folded in found.manifest.concepts or recipe.exists():
        raise PerfError(
            f"there is a concept `{folded}` already",
            where=str(recipe if recipe.exists() else found.manifest_path),
            hint=f"edit its recipe, or run `perf remove {folded}` and delete the recipe first",
        )
    _check_word(found, supercategory)
    chosen = patterns([*(images or []), *(more or [])], folded, recipe, found.root, copy=copy)
    schemas = place_schemas(found.root)
    text = new_recipe(
        schema=f"../{schemas}/recipe.schema.json",
        concept={"name": folded, "version": version, "supercategory": supercategory, "images": chosen},
        train={"steps": steps, "seed": seed, "flip": flip},
        render={"bias": bias, "temperature": temperature},
    )
    validate(parse_toml(text, "perf add", "recipe"), Recipe, text="", where="perf add", kind="recipe")
    make_folder(recipe.parent)
    count = check_pictures(recipe.parent, chosen, "--images")
    manifest = read_text(found.manifest_path, "manifest")
    replace_text(recipe, text)
    entry = f"recipes/{folded}.toml"
    replace_text(
        found.manifest_path, add_concept(manifest, folded, {"recipe": entry}, str(found.manifest_path))
    )
    if as_json:
        console.say_json("perf.add/1", {"name": folded, "recipe": entry, "images": chosen, "pictures": count})
        return
    pictures = "1 picture" if count == 1 else f"{count} pictures"
    console.say(f"Added {folded} ({supercategory}, {pictures}): {entry}")
    if any(Path(pattern).is_absolute() for pattern in chosen):
        console.say("The pictures lie outside the project; --copy would have kept them with it.")
    console.say("Next: perf build")


def remove(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME", help="The concepts.", show_default=False, autocompletion=concept_names
        ),
    ],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take concepts out of perfusion.toml and perfusion.lock.

    Their recipes stay.
    """
    from perfusion_registry.cli import console
    from perfusion_registry.recipe import write_lockfile
    from perfusion_registry.recipe.document import read_text
    from perfusion_registry.recipe.editing import remove_concept
    from perfusion_registry.recipe.writing import replace_text
    from perfusion_registry.resolve import Project
    from perfusion_registry.resolve.wishes import reachable

    found = Project.find(project)
    chosen = found.select(names)
    text = read_text(found.manifest_path, "manifest")
    for name in chosen:
        text = remove_concept(text, name, str(found.manifest_path))
    replace_text(found.manifest_path, text)
    if found.lockfile is not None:
        needed = reachable(set(found.manifest.concepts) - set(chosen), found.lockfile.concepts)
        kept = tuple(concept for concept in found.lockfile.concepts if concept.name in needed)
        write_lockfile(found.lockfile_path, found.lockfile.model_copy(update={"concepts": kept}))
    if as_json:
        console.say_json("perf.remove/1", {"removed": chosen})
        return
    for name in chosen:
        recipe = found.manifest.concepts[name].recipe
        console.say(f"Removed {name}" + (f"; its recipe {recipe} stays" if recipe else ""))
    for scene, said in found.manifest.scenes.items():
        for name in chosen:
            if name in said.gates or f"{name}*" in said.prompt:
                console.reporter().warn(f"the scene `{scene}` still calls `{name}`")


def list_concepts(
    outdated: Annotated[
        bool, typer.Option("--outdated", help="Show what registries have newer than what is locked.")
    ] = False,
    offline: OfflineOption = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the project's concepts and what a build would do."""
    from perfusion_registry.cli import console
    from perfusion_registry.resolve import Project

    if outdated:
        from perfusion_registry.cli.outdated import show_outdated

        show_outdated(project, offline=offline, as_json=as_json)
        return
    found = Project.find(project, lock_alone=True)
    problem, states = _states(found)
    rows = [_row(found, name, states.get(name, "unknown")) for name in sorted(found.manifest.concepts)]
    if as_json:
        base = found.manifest.project.base
        console.say_json("perf.list/1", {"base": base, "problem": problem, "concepts": rows})
        return
    if not rows:
        console.say("No concepts yet: perf add NAME --super WORD --images GLOB")
        return
    cells = [
        [row["name"], row["version"], row["supercategory"], row["state"], _size(row["size"]), row["source"]]
        for row in rows
    ]
    console.say_table(["concept", "version", "super", "state", "size", "source"], cells, right=["size"])
    if problem:
        console.reporter().warn(problem)


def _check_word(project: Project, word: str) -> None:
    """Refuse a supercategory of several tokens, where the base is on this machine to be asked."""
    from perfusion_registry.base import describe_base
    from perfusion_registry.cli.supercategory import check_supercategory

    try:
        base = describe_base(project.manifest.project.base, root=project.root, allow_download=False)
    except PerfError:
        return
    check_supercategory(base.folder, word)


def _states(project: Project) -> tuple[str | None, dict[str, str]]:
    """What a build would do with each concept; or, when that cannot be told, why."""
    from perfusion_registry.cli.planning import survey

    states: dict[str, str] = {}
    problem = None
    for name, entry in project.manifest.concepts.items():
        if entry.recipe is None:
            states[name] = _fetched(project, name)
            continue
        try:
            for task in survey(project.root, [name]).plan.tasks:
                states[name] = f"to build: {task.reason}" if task.reason else "built"
        except PerfError as error:
            problem = str(error) if problem is None else problem
            states[name] = "unknown"
    return problem, states


def _fetched(project: Project, name: str) -> str:
    """Whether a concept of a registry is here."""
    from perfusion_registry.artifact import Store, cache_dir

    block = project.lockfile.concept(name) if project.lockfile else None
    if block is None or block.sha256 is None:
        return "to lock"
    return "fetched" if Store(cache_dir()).has(block.sha256) else "to fetch"


def _row(project: Project, name: str, state: str) -> dict[str, Any]:
    from perfusion_registry.recipe import Pack

    entry = project.manifest.concepts[name]
    locked = project.lockfile.concept(name) if project.lockfile else None
    row: dict[str, Any] = {
        "name": name,
        "version": locked.version if locked else entry.version or "",
        "supercategory": "",
        "state": state,
        "size": locked.size if locked and state in ("built", "fetched") else None,
        "sha256": locked.sha256 if locked and state in ("built", "fetched") else None,
        "source": entry.recipe or entry.registry or "",
    }
    if entry.recipe is not None:
        try:
            recipe = project.declared(name)
        except PerfError:
            return row
        if isinstance(recipe, Pack):
            row |= {"version": recipe.pack.version, "state": "scene pack"}
        else:
            row |= {"version": recipe.concept.version, "supercategory": recipe.concept.supercategory}
    return row


def _size(count: int | None) -> str:
    from perfusion_registry.cli import console

    return "" if count is None else console.size(count)
