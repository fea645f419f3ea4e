"""What the commands that take a prompt share: their options, and the way from a prompt to a composition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfusion_registry.cli.completion import scene_names
from perfusion_registry.cli.help import GATES
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.artifact import Artifact, Store
    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.compose.composing import GateSources
    from perfusion_registry.compose.composition import Composition
    from perfusion_registry.compose.prompt import Gate, Prompt
    from perfusion_registry.resolve import Project

FOLDER = "renders"

PromptArgument = Annotated[
    str | None,
    typer.Argument(metavar="PROMPT", help="A prompt; a star calls a concept: 'a teddy* in the snow'."),
]
SceneOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A scene of perfusion.toml, or PACK/SCENE of a pack: its gates, and its prompt unless "
        "one is given.",
        autocompletion=scene_names,
    ),
]
BiasOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]B",
        help="Bias of all gates, or of one; lower is more of the concept. Repeatable.",
        rich_help_panel=GATES,
    ),
]
TemperatureOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]T",
        help="Temperature of all gates, or of one; lower is sharper. Repeatable.",
        rich_help_panel=GATES,
    ),
]
LockOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]LOCK",
        help="Key lock of all concepts, or of one: local, global or none. Repeatable.",
        rich_help_panel=GATES,
    ),
]
ResidualOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]R",
        help="Strength of all residuals, or of one. Repeatable.",
        rich_help_panel=GATES,
    ),
]
PresetOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME=]P",
        help="Bias and temperature by name, where no option sets them: faithful, balanced, editable or "
        "together. Repeatable.",
        rich_help_panel=GATES,
    ),
]
WithOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--with",
        metavar="FILE",
        help="Take the concept of this artifact instead of the locked one of its name. Repeatable.",
    ),
]


@dataclass(frozen=True)
class Place:
    """Where a command works. project: where to look for one. device, dtype: as `load_base` takes them.

    locked, frozen, offline: as the options of these names. files: artifacts that stand in for what is locked.
    """

    project: Path | None
    device: str = "auto"
    dtype: str = "auto"
    locked: bool = False
    frozen: bool = False
    offline: bool = False
    files: tuple[Path, ...] = ()

    @property
    def allow_download(self) -> bool | None:
        """Whether a base may be downloaded, as `describe_base` takes it."""
        return False if self.offline else None


@dataclass(frozen=True)
class Outputs:
    """Where pictures go. out: a folder or file; None is `renders/` of the project. sheet: a file, or None."""

    out: Path | None
    sheet: Path | None
    force: bool = False


@dataclass(frozen=True)
class Ready:
    """A composition with everything that it is drawn from. project: None outside of one."""

    project: Project | None
    base: Base
    composition: Composition
    artifacts: dict[str, Artifact]


def ready(
    place: Place,
    prompt: str | None,
    scene: str | None,
    gates: tuple[dict[str, Gate], Gate],
    reporter: Reporter,
) -> Ready:
    """Compose `prompt`, or the prompt of `scene`, in the project of `place`.

    gates: what the command line says of them, as `command_gates` returns it. Mistakes in the prompt and
    concepts that are not built are told before the base is loaded. Raises CheckFailedError where the place is
    locked and the lockfile, or the base here, is not as it should be.
    """
    from perfusion_registry.artifact import Store, cache_dir
    from perfusion_registry.artifact.lockfiles import note_lockfile
    from perfusion_registry.base import describe_base
    from perfusion_registry.compose.composing import check, check_used, compose
    from perfusion_registry.compose.concept import concepts_of_files, find_concepts
    from perfusion_registry.compose.prompt import parse_prompt
    from perfusion_registry.resolve import Project

    if prompt is not None:
        parse_prompt(prompt)  # a mistake in the prompt is told wherever the command runs
    elif scene is None:
        raise PerfError("there is no prompt", hint="try `perf render 'a teddy* in the snow'`")
    project = Project.find(place.project, lock_alone=True)
    _check_lockfile(project, place)
    store = Store(cache_dir())
    parsed, sources = _in_scene(project, store, prompt, scene, gates)
    note_lockfile(store.root, project.lockfile_path)
    check_used(sources, parsed.names)
    given = concepts_of_files(place.files, parsed, store)
    concepts = find_concepts(parsed, project, store, given)
    if not (place.locked or place.frozen):
        _warn_of_changes(project, [name for name in parsed.names if name not in given], place, reporter)

    base_name = project.manifest.project.base
    description = describe_base(base_name, root=project.root, allow_download=place.allow_download)
    check(parsed, concepts, description, sources)
    locked = project.lockfile.base if project.lockfile else None
    if locked is not None and locked.digest != description.digest:
        told = f"the base {description.repo} here is not the locked one"
        if place.locked and not place.frozen:
            raise CheckFailedError(told, where=str(description.folder), hint="get the locked base")
        reporter.warn(f"{told}, so pictures may differ")
    base = loaded(description, place, reporter)
    composition = compose(parsed, concepts, base, sources, reporter=reporter)
    return Ready(project, base, composition, {name: found.artifact for name, found in concepts.items()})


def loaded(
    description: BaseDescription, place: Place, reporter: Reporter, compute_dtype: str = "auto"
) -> Base:
    """Load a base, and say so: it takes seconds."""
    with reporter.stage(f"Loading {description.repo}"):
        from perfusion_registry.base import load_base

        return load_base(description, device=place.device, dtype=place.dtype, compute_dtype=compute_dtype)


def command_gates(
    bias: Sequence[str] | None,
    temperature: Sequence[str] | None,
    lock: Sequence[str] | None,
    residual: Sequence[str] | None,
    preset: Sequence[str] | None = None,
) -> tuple[dict[str, Gate], Gate]:
    """Read the gate options, each `VALUE` or `NAME=VALUE`: gates by concept name, and the gate of all."""
    from perfusion_registry.compose.prompt import Gate, gate_value
    from perfusion_registry.recipe import canonical_name

    named: dict[str, Gate] = {}
    every = Gate()
    options = (
        ("bias", bias),
        ("temperature", temperature),
        ("lock", lock),
        ("residual", residual),
        ("preset", preset),
    )
    for option, texts in options:
        for text in texts or ():
            name, equals, value = text.rpartition("=")
            try:
                gate = Gate(**gate_value(option, value.strip()))
                folded = canonical_name(name.strip().lower().removesuffix("*")) if equals else None
            except PerfError as error:
                raise PerfError(error.what, where=f"--{option} {text}", hint=error.hint) from error
            if folded is None:
                every = gate.beside(every)
            else:
                named[folded] = gate.beside(named.get(folded, Gate()))
    return named, every


def _in_scene(
    project: Project,
    store: Store,
    prompt: str | None,
    scene: str | None,
    gates: tuple[dict[str, Gate], Gate],
) -> tuple[Prompt, GateSources]:
    """Return the prompt to compose and everything that is said about its gates outside of it."""
    from perfusion_registry.compose.composing import GateSources
    from perfusion_registry.compose.prompt import Gate, parse_prompt

    command, command_all = gates
    if scene is None:
        if not (prompt or "").strip():
            raise PerfError(
                "the prompt is empty", hint='say what to draw: perf render "a teddy* in the snow"'
            )
        return parse_prompt(prompt or ""), GateSources(command, command_all)
    from perfusion_registry.compose.scene import find_scene

    found = find_scene(scene, project, store)
    scene_gates = {
        name: Gate(gate.bias, gate.temperature, gate.key_lock, gate.residual, gate.preset)
        for name, gate in found.gates.items()
    }
    text = prompt if prompt is not None else found.prompt
    return parse_prompt(text), GateSources(command, command_all, scene_gates)


def _check_lockfile(project: Project, place: Place) -> None:
    """Raise CheckFailedError where the lockfile is stale, or to be taken as it is and not there."""
    if not (place.locked or place.frozen):
        return
    from perfusion_registry.cli.locking import check_fresh, no_lockfile, stale

    if place.frozen:
        if project.lockfile is None:
            raise no_lockfile(str(project.lockfile_path))
    elif project.manifest_path.is_file():
        why, _ = check_fresh(project.root, offline=place.offline)
        if why:
            raise stale(why, str(project.lockfile_path))


def _warn_of_changes(project: Project, called: Sequence[str], place: Place, reporter: Reporter) -> None:
    """Say which of the concepts `called` have changed since they were built; the locked are drawn anyway."""
    from perfusion_registry.cli.planning import survey

    local = [name for name in project.local() if name in called]
    if not local:
        return
    try:
        needed = survey(project.root, local, offline=place.offline).plan.needed
    except PerfError:  # a recipe that is being edited, images that are gone: neither is needed to draw
        return
    for task in needed:
        reporter.warn(
            f"{task.name} has changed since it was built ({task.reason}); "
            f"the built one is used. `perf build {task.name}` brings it up to date"
        )
