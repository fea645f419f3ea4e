"""`compose`: from a prompt, or a scene, to its composition, with the base loaded that it is drawn by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.prompt import Prompt, parse_prompt
from perfusion_registry.errors import CheckFailedError, PerfError
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.loaded_base import load_base
from perfusion_registry.operations.lock import check_fresh, no_lockfile, stale
from perfusion_registry.operations.plan import plan_of
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.writing import replace_text, require_own
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.staleness import base_differs

if TYPE_CHECKING:
    from perfusion_registry.artifact import Artifact
    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.compose.composition import Composition
    from perfusion_registry.compose.concept import Concept
    from perfusion_registry.operations.transfers import Transfers
    from perfusion_registry.reporter import Reporter


@dataclass(frozen=True, kw_only=True)
class Prompting:
    """How prompts are composed.

    scene: of the manifest, or PACK/SCENE of a pack: its gates, and its prompt unless one is given.

    gates: what is said of them outside of prompt and scene. files: artifacts that stand in for what is
    locked. base: what to draw on instead of the project's base, as a manifest names it: concepts of another
    family are transferred to it. covariance: of that base, where none ships with it.

    locked: raise CheckFailedError where the lockfile, or the base here, is not as it should be.
    frozen: take the lockfile as it is, without a word.
    """

    scene: str | None = None
    gates: SettingSources = field(default_factory=SettingSources)
    files: tuple[Path, ...] = ()
    base: str | None = None
    covariance: Path | None = None
    locked: bool = False
    frozen: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)

    def __post_init__(self) -> None:
        """Raise PerfError for a covariance of no base."""
        if self.covariance is not None and self.base is None:
            raise PerfError(
                "a covariance is needed to transfer concepts to another base, and none is named",
                where=f"--covariance {self.covariance}",
                hint="name the base: --for BASE",
            )


@dataclass(frozen=True, kw_only=True)
class PromptOptions(Prompting):
    """What to compose."""

    prompt: str | None = None

    def __post_init__(self) -> None:
        """Raise PerfError where there is no prompt, or a mistake in it."""
        if self.prompt is not None:
            if self.prompt.strip() == "-":
                raise PerfError(
                    "`-` is no prompt, and `perf render` alone reads prompts from standard input",
                    hint='write it out: perf render "a teddy* in the snow"',
                )
            parse_prompt(self.prompt)
        elif self.scene is None:
            raise PerfError("there is no prompt", hint="try `perf render 'a teddy* in the snow'`")
        super().__post_init__()


@dataclass(frozen=True)
class LoadedComposition:
    """A composition with everything that it is drawn from. project: None outside of one."""

    project: ProjectFolder | None
    base: Base
    composition: Composition
    artifacts: dict[str, Artifact]


def compose(workspace: Workspace, options: PromptOptions, *, out: Path | None = None) -> Composition:
    """Resolve a prompt to its concepts, their gates and locks. out: a file for the composition."""
    from perfusion_registry.compose.composition import read_composition

    if out is not None:
        require_own(out, "composition", read_composition)
    compute = replace(options.compute, device="cpu", offload=None)
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
    session = ComposingSession(workspace, options, loaded)
    ready = session.read(options)
    return session.compose(ready, workspace.reporter)


def require_call(workspace: Workspace, options: PromptOptions, purpose: str) -> None:
    """Raise PerfError, before anything is loaded, for a prompt that calls no concept.

    purpose: what its concepts are wanted for, such as `sweep`.
    """
    from perfusion_registry.compose.habits import habits

    project = workspace.read()
    prompt, _ = _in_scene(workspace, project, options)
    if not prompt.names:
        meant = [*habits(prompt, project.manifest.concepts)]
        hint = meant[0] if meant else "call one with a star: teddy*"
        raise PerfError(f"the prompt calls no concept to {purpose}", where=prompt.source, hint=hint)


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt whose concepts are at hand, and in which nothing is wrong that can be told without a base."""

    prompt: Prompt
    concepts: dict[str, Concept]
    gates: SettingSources


class ComposingSession:
    """Composes prompts of one project as it is now: first each is read, then the base is loaded, once."""

    def __init__(self, workspace: Workspace, options: Prompting, loaded: Base | None = None) -> None:
        """loaded: as in `load_base`. Raises PerfError where the lockfile is not as `options` want it."""
        self._workspace, self._options, self._loaded = workspace, options, loaded
        self.project = workspace.read()
        _check_lockfile(workspace, self.project, options)
        self._found: dict[str, Concept] = {}
        self._there: dict[str, Concept] = {}  # as another base has them
        self._told: set[str] = set()  # of which no change is to be told any more
        self._judged: set[str] = set()  # of which no verdict is

    @cached_property
    def description(self) -> BaseDescription:
        """The base to draw on, on this machine."""
        name = self._options.base
        return self._workspace.base(self.project) if name is None else self._workspace.base_named(name)

    @cached_property
    def base(self) -> Base:
        """The base, loaded. Raises CheckFailedError for one that is not the locked one, where that is asked
        for."""
        workspace, options = self._workspace, self._options
        if options.base is not None:
            return self._transfers.base
        _check_base(self.project, self.description, options, workspace.reporter)
        return load_base(workspace, self.description, options.compute, loaded=self._loaded)

    def take(self, files: Sequence[Path], called: Collection[str]) -> None:
        """Let the concepts of artifact files stand in for the locked ones. Raises PerfError for a file whose
        concept is not among the `called`."""
        from perfusion_registry.compose.concept import concepts_of_files

        given = concepts_of_files(files, called, self._workspace.store)
        self._found |= given
        self._told |= given.keys()

    def read(self, options: PromptOptions) -> ReadPrompt:
        """Find what a prompt calls. Raises PerfError for every mistake that needs no base."""
        from perfusion_registry.compose.checking import check, check_used
        from perfusion_registry.compose.concept import find_concepts

        workspace, project = self._workspace, self.project
        parsed, gates = _in_scene(workspace, project, options)
        check_used(gates, parsed.names)
        self.take(options.files, parsed.names)
        self._found |= find_concepts(parsed, project, workspace.store, self._found)
        concepts = {name: self._found[name] for name in parsed.names}
        if not (options.locked or options.frozen):
            untold = [name for name in parsed.names if name not in self._told]
            _warn_of_changes(workspace, project, untold)
            self._told.update(untold)
        for name, concept in concepts.items():
            if name not in self._judged:
                self._judged.add(name)
                _tell_of_verdict(concept, workspace.reporter)
        if options.base is None:
            check(parsed, concepts, self.description, gates)
        else:
            for concept in concepts.values():
                self._transfers.check(concept)
        return ReadPrompt(parsed, concepts, gates)

    def compose(self, ready: ReadPrompt, reporter: Reporter) -> LoadedComposition:
        """Compose a prompt that was read. Raises PerfError where a concept does not fit into its tokens."""
        from perfusion_registry.compose.composing import compose as resolve

        project, concepts = self.project, ready.concepts
        if self._options.base is not None:
            concepts = {name: self._transferred(concept) for name, concept in concepts.items()}
        blocks = project.lockfile.concepts if project.lockfile else ()
        packs = {block.name for block in blocks if block.kind == "pack"}  # which no prompt calls
        known = project.manifest.concepts.keys() - packs
        composition = resolve(ready.prompt, concepts, self.base, ready.gates, known=known, reporter=reporter)
        artifacts = {name: concept.artifact for name, concept in concepts.items()}
        return LoadedComposition(project, self.base, composition, artifacts)

    @cached_property
    def _transfers(self) -> Transfers:
        """What brings concepts to another base than the project's."""
        from perfusion_registry.operations.transfers import Transfers

        options = self._options
        return Transfers(
            self._workspace,
            self.project,
            self.description,
            options.covariance,
            options.compute,
            loaded=self._loaded,
        )

    def _transferred(self, concept: Concept) -> Concept:
        """A concept as the other base has it, and a word about how it came there."""
        if concept.name not in self._there:
            there = self._there[concept.name] = self._transfers.of(concept)
            source = there.artifact.card.transferred
            if source is not None and there.sha256 != concept.sha256:
                moved = "" if source.moved is None else f"; its encoding moved by {source.moved:.0%}"
                self._workspace.reporter.note(
                    f"{concept.name} was learned on {source.base}; "
                    f"it is transferred to {self.description.repo}{moved}"
                )
        return self._there[concept.name]


def _check_base(
    project: ProjectFolder, description: BaseDescription, options: Prompting, reporter: Reporter
) -> None:
    """Warn where the base here is not the locked one; raise CheckFailedError where it was to be."""
    locked = project.lockfile.base if project.lockfile else None
    differs = base_differs(locked, description)
    if differs is not None:
        what = f"the base {description.repo} here is not the locked one: {differs[0]}"
        if options.locked and not options.frozen:
            raise CheckFailedError(what, where=str(description.folder), hint=differs[1])
        reporter.warn(f"{what}, so pictures may differ ({differs[1]})")


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


def _check_lockfile(workspace: Workspace, project: ProjectFolder, options: Prompting) -> None:
    """Raise CheckFailedError where the lockfile is stale, or to be taken as it is and not there."""
    if options.frozen:
        if project.lockfile is None:
            raise no_lockfile(project.lockfile_path)
    elif options.locked and project.manifest_path.is_file():
        reasons, _ = check_fresh(workspace)
        if reasons:
            raise stale(reasons, project.lockfile_path)


def _tell_of_verdict(concept: Concept, reporter: Reporter) -> None:
    """Say of a concept that it failed a test of its build."""
    verdict = concept.artifact.card.verdict
    if verdict is not None and verdict.failed:
        reporter.note(
            f"{concept.name}* was judged {verdict.rating} when it was built: "
            f"`perf info {concept.name}` says why"
        )


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
