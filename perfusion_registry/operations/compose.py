"""`compose`: from a prompt, or a scene, to its composition, with the base loaded that it is drawn by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.compose.composing import SettingSources
from perfusion_registry.compose.prompt import Prompt, parse_prompt
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.operations.build import ComputeOptions
from perfusion_registry.operations.loaded_base import load_base
from perfusion_registry.operations.lock import check_fresh, no_lockfile, stale
from perfusion_registry.operations.plan import plan_of
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.staleness import base_differs

if TYPE_CHECKING:
    from perfusion_registry.artifact import Artifact
    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.compose.composition import Composition
    from perfusion_registry.compose.concept import Concept
    from perfusion_registry.reporter import Reporter


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """What to compose.

    scene: of the manifest, or PACK/SCENE of a pack: its gates, and its prompt unless one is given.

    gates: what is said of them outside of prompt and scene. files: artifacts that stand in for what is
    locked. base: what to draw on instead of the project's base, as a manifest names it: concepts of another
    family are transferred to it. covariance: of that base, where none ships with it.

    locked: raise CheckFailedError where the lockfile, or the base here, is not as it should be.
    frozen: take the lockfile as it is, without a word.
    """

    prompt: str | None = None
    scene: str | None = None
    gates: SettingSources = field(default_factory=SettingSources)
    files: tuple[Path, ...] = ()
    base: str | None = None
    covariance: Path | None = None
    locked: bool = False
    frozen: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)

    def __post_init__(self) -> None:
        """Raise PerfError where there is no prompt, or a mistake in it."""
        if self.prompt is not None:
            if self.prompt.strip() == "-":
                raise PerfError(
                    "`-` is no prompt, and none is read from standard input",
                    hint='write it out: perf render "a teddy* in the snow"',
                )
            parse_prompt(self.prompt)
        elif self.scene is None:
            raise PerfError("there is no prompt", hint="try `perf render 'a teddy* in the snow'`")
        if self.covariance is not None and self.base is None:
            raise PerfError(
                "a covariance is needed to transfer concepts to another base, and none is named",
                where=f"--covariance {self.covariance}",
                hint="name the base: --for BASE",
            )


@dataclass(frozen=True)
class LoadedComposition:
    """A composition with everything that it is drawn from. project: None outside of one."""

    project: ProjectFolder | None
    base: Base
    composition: Composition
    artifacts: dict[str, Artifact]


def compose(workspace: Workspace, options: PromptOptions, *, out: Path | None = None) -> Composition:
    """Resolve a prompt to its concepts, their gates and locks. out: a file for the composition."""
    compute = replace(options.compute, device="cpu")
    composition = load_prompt(workspace, replace(options, compute=compute)).composition
    if out is not None:
        replace_text(out, composition.to_json())
    return composition


def load_prompt(
    workspace: Workspace, options: PromptOptions, loaded: Base | None = None
) -> LoadedComposition:
    """Compose the prompt, or that of the scene, in the project.

    loaded: as in `load_base`. Mistakes in the prompt and concepts that are not built are reported before the
    base is loaded.
    """
    from perfusion_registry.compose.composing import check, check_used
    from perfusion_registry.compose.composing import compose as resolve
    from perfusion_registry.compose.concept import concepts_of_files, find_concepts
    from perfusion_registry.compose.habits import habits

    project, store, reporter = workspace.read(), workspace.store, workspace.reporter
    _check_lockfile(workspace, project, options)
    parsed, gates = _in_scene(workspace, project, options)
    check_used(gates, parsed.names)
    given = concepts_of_files(options.files, parsed, store)
    concepts = find_concepts(parsed, project, store, given)
    if not (options.locked or options.frozen):
        _warn_of_changes(workspace, project, [name for name in parsed.names if name not in given])

    if options.base is None:
        description = workspace.base(project)
        check(parsed, concepts, description, gates)
        _check_base(project, description, options, reporter)
        base = load_base(workspace, description, options.compute, loaded=loaded)
    else:
        base, concepts = _on_another_base(workspace, project, options.base, concepts, options, loaded)
    composition = resolve(parsed, concepts, base, gates, reporter=reporter)
    blocks = project.lockfile.concepts if project.lockfile else ()
    packs = {block.name for block in blocks if block.kind == "pack"}  # which no prompt calls
    for habit in habits(parsed, project.manifest.concepts.keys() - packs):
        reporter.warn(habit)
    artifacts = {name: concept.artifact for name, concept in concepts.items()}
    return LoadedComposition(project, base, composition, artifacts)


def _check_base(
    project: ProjectFolder, description: BaseDescription, options: PromptOptions, reporter: Reporter
) -> None:
    """Warn where the base here is not the locked one; raise CheckFailedError where it was to be."""
    locked = project.lockfile.base if project.lockfile else None
    differs = base_differs(locked, description)
    if differs is not None:
        what = f"the base {description.repo} here is not the locked one: {differs[0]}"
        if options.locked and not options.frozen:
            raise CheckFailedError(what, where=str(description.folder), hint=differs[1])
        reporter.warn(f"{what}, so pictures may differ")


def _on_another_base(
    workspace: Workspace,
    project: ProjectFolder,
    name: str,
    concepts: Mapping[str, Concept],
    options: PromptOptions,
    loaded: Base | None,
) -> tuple[Base, dict[str, Concept]]:
    """The base of that name, loaded, and the concepts as it has them."""
    from perfusion_registry.operations.transfers import Transfers

    description = workspace.base_named(name)
    transfers = Transfers(workspace, project, description, options.covariance, options.compute, loaded=loaded)
    for concept in concepts.values():
        transfers.check(concept)
    base = transfers.base
    there = {name: transfers.of(concept) for name, concept in concepts.items()}
    for concept in there.values():
        source = concept.artifact.card.transferred
        if source is not None and concept.sha256 != concepts[concept.name].sha256:
            moved = "" if source.moved is None else f"; its encoding moved by {source.moved:.0%}"
            workspace.reporter.note(
                f"{concept.name} was learned on {source.base}; it is transferred to {description.repo}{moved}"
            )
    return base, there


def _in_scene(
    workspace: Workspace, project: ProjectFolder, options: PromptOptions
) -> tuple[Prompt, SettingSources]:
    """The prompt to compose, and everything that is said about its gates outside of it."""
    if options.scene is None:
        if not (options.prompt or "").strip():
            raise PerfError(
                "the prompt is empty", hint='say what to draw: perf render "a teddy* in the snow"'
            )
        return parse_prompt(options.prompt or ""), options.gates
    from perfusion_registry.compose.scene import find_scene

    scene = find_scene(options.scene, project, workspace.store)
    gates = {name: settings.model_dump(exclude_none=True) for name, settings in scene.gates.items()}
    text = options.prompt if options.prompt is not None else scene.prompt
    return parse_prompt(text), replace(options.gates, scene=gates, scene_name=options.scene)


def _check_lockfile(workspace: Workspace, project: ProjectFolder, options: PromptOptions) -> None:
    """Raise CheckFailedError where the lockfile is stale, or to be taken as it is and not there."""
    if options.frozen:
        if project.lockfile is None:
            raise no_lockfile(project.lockfile_path)
    elif options.locked and project.manifest_path.is_file():
        reasons, _ = check_fresh(workspace)
        if reasons:
            raise stale(reasons, project.lockfile_path)


def _warn_of_changes(workspace: Workspace, project: ProjectFolder, called: Sequence[str]) -> None:
    """Say which of the concepts `called` have changed since they were built; the locked are drawn anyway."""
    local = [name for name in project.local() if name in called]
    if not local:
        return
    try:
        needed = plan_of(workspace, project, local).plan.needed
    except PerfError:  # a recipe that is being edited, images that are gone: neither is needed to draw
        return
    for task in needed:
        workspace.reporter.warn(
            f"{task.name} has changed since it was built ({task.reason}); "
            f"the built one is used. `perf build {task.name}` brings it up to date"
        )
