"""A loaded base that composes prompts with a project's concepts, and draws them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.library.arguments import Answering, several
from perfusion_registry.library.controls import said_of_controls
from perfusion_registry.library.gates import Gates, axis_of, choices_of, gate_sources
from perfusion_registry.library.picture import Picture
from perfusion_registry.methods.perfusion.options import SceneLock
from perfusion_registry.methods.settings import Value
from perfusion_registry.operations.compose import PromptOptions, load_prompt
from perfusion_registry.operations.explain import ExplainResult, explain
from perfusion_registry.operations.job import CompositionSource, RenderJob, RenderOverrides, Source, load_job
from perfusion_registry.operations.prompt_list import PromptLine, PromptList, load_list
from perfusion_registry.operations.sweep import Grid, SweepOptions, SweepResult, sweep
from perfusion_registry.operations.tune import TuneOptions, TuneResult, tune
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.operations.workspace import Workspace

Files = str | Path | Collection[str | Path]


class Composer(Answering):
    """Composes and draws with one base that stays loaded; from `Project.composer`.

    Threads may share it: one at a time draws a batch of pictures, and the others wait for their turn, but
    never for a caller that looks at one. The project's files are read anew for each prompt, so what has been
    built or synced since is found; only the base has to be the one that was loaded.

    In all methods, prompt: with a star behind each concept, `a teddy* in the snow`. scene: of the manifest,
    or PACK/SCENE of a pack: its gates, and its prompt unless one is given. gates: see `Gates`. files:
    artifacts that stand in for the locked concepts of their names. All raise PerfError.
    """

    def __init__(
        self,
        workspace: Callable[[], Workspace],
        base: Base,
        *,
        locked: bool = False,
        frozen: bool = False,
        another: str | None = None,
        covariance: Path | None = None,
    ) -> None:
        """workspace: opens the project. base: what draws. another: its name, where it is not the project's.
        The rest as in `Project.composer`.
        """
        self._workspace = workspace
        self._base = base
        self._locked = locked
        self._frozen = frozen
        self._another = another
        self._covariance = covariance

    def __repr__(self) -> str:
        base = self._base
        return f"<Composer of {base.description.repo} on {base.device.type}>"

    def compose(
        self,
        prompt: str | None = None,
        *,
        scene: str | None = None,
        gates: Gates | None = None,
        files: Files = (),
    ) -> Composition:
        """Resolve a prompt to the exact artifacts and gates that it is drawn with.

        A composition can be written (`to_json`), reviewed, and drawn by whoever has its artifacts.
        """
        with self._workspace() as workspace:
            return load_prompt(workspace, self._prompt(prompt, scene, gates, files), self._base).composition

    def explain(
        self,
        prompt: str | None = None,
        *,
        scene: str | None = None,
        gates: Gates | None = None,
        files: Files = (),
    ) -> ExplainResult:
        """Measure, token by token, how near it is to each concept and how far its gate opens there."""
        with self._workspace() as workspace:
            return explain(workspace, self._prompt(prompt, scene, gates, files), self._base)

    def render(
        self,
        prompt: str | Composition | Sequence[str] | None = None,
        *,
        seeds: Iterable[int] = (0,),
        scene: str | None = None,
        gates: Gates | None = None,
        files: Files = (),
        negative_prompt: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        width: int | None = None,
        height: int | None = None,
        scheduler: str | None = None,
        batch: int = 1,
        upscale: bool = False,
        image: str | Path | None = None,
        mask: str | Path | None = None,
        strength: float | None = None,
        control: Mapping[str, str | Path] | None = None,
        control_strength: float | Mapping[str, float] | None = None,
    ) -> Iterator[Picture]:
        """Draw a prompt, a composition or several prompts, once for each seed; each picture comes as soon as
        it is done.

        Several prompts come in their order; a gate that is set by a concept's name counts in those that call
        it, and a mistake is at `prompts[2]`. seeds: one picture each. batch: how many to draw at once; a
        picture may differ by rounding with another. upscale: enlarge with the base's upscaler. image: a file
        to draw from, and how much of it is drawn anew, by default 0.8; mask: a file that is white where it
        is, and then by default all of that. control: files by the names of the base's controls, `{"canny":
        "edges.png"}`; control_strength: of all or by name, by default 1. What is None is the base's own. All
        is composed before this returns, so mistakes in prompts are raised here, and nothing is drawn until
        the first picture is asked for.
        """
        overrides = RenderOverrides(
            seeds=tuple(seeds),
            steps=steps,
            guidance=guidance,
            negative_prompt=negative_prompt,
            width=width,
            height=height,
            scheduler=scheduler,
            batch=batch,
            upscale=upscale or None,
            image=None if image is None else Path(image),
            mask=None if mask is None else Path(mask),
            strength=strength,
            **said_of_controls(control, control_strength),
        )
        source: Source
        if isinstance(prompt, Composition):
            if scene is not None or files:
                raise PerfError(
                    "a composition names its own concepts, so no scene and no files go with it",
                    hint="give the prompt instead",
                )
            source = CompositionSource(composition=prompt, gates=gate_sources(gates))
        elif prompt is not None and not isinstance(prompt, str):
            listed = PromptList(
                lines=tuple(PromptLine(f"prompts[{index}]", text) for index, text in enumerate(prompt)),
                name="prompts",
                plain=True,
                **self._how(scene, gates, files),
            )
            with self._workspace() as workspace:
                jobs = [one.job for one in load_list(workspace, listed, overrides, self._base)]
                return self._pictures(jobs, workspace.reporter)
        else:
            source = self._prompt(prompt, scene, gates, files)
        with self._workspace() as workspace:
            job = load_job(workspace, source, overrides, self._base)
            return self._pictures([job], workspace.reporter)

    def _pictures(self, jobs: Sequence[RenderJob], reporter: Reporter) -> Iterator[Picture]:
        for job in jobs:
            for rendered in job.draw(reporter):
                yield Picture(rendered.image, rendered.record)

    def sweep(
        self,
        prompt: str | None = None,
        *,
        biases: Iterable[float] | None = None,
        temperatures: Iterable[float] | None = None,
        across: tuple[str, Iterable[float]] | None = None,
        down: tuple[str, Iterable[float]] | None = None,
        names: str | Collection[str] | None = None,
        scene: str | None = None,
        gates: Gates | None = None,
        files: Files = (),
        seed: int | None = None,
        negative_prompt: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        width: int | None = None,
        height: int | None = None,
        scheduler: str | None = None,
        out: str | Path | None = None,
        force: bool = False,
    ) -> SweepResult:
        """Draw a prompt over a grid of gate biases and temperatures, with one seed, onto one sheet.

        biases, temperatures: None for those of the command. across, down: what varies in the place of either,
        any option that is a number, `("residual", (0.5, 1.0))`; across alone is one row. names: the concepts
        that vary; None for all that have these options. gates: what does not vary, such as a key lock.
        out: the sheet; None for one in `renders/` of the project. force: overwrite another file. The rest as
        in `render`.
        """
        options = SweepOptions(
            prompt=self._prompt(prompt, scene, gates, files),
            grid=Grid.of(
                bias=axis_of("bias", biases),
                temperature=axis_of("temperature", temperatures),
                across=None if across is None else axis_of(*across),
                down=None if down is None else axis_of(*down),
                names=None if names is None else several(names),
            ),
            overrides=RenderOverrides(
                seeds=None if seed is None else (seed,),
                steps=steps,
                guidance=guidance,
                negative_prompt=negative_prompt,
                width=width,
                height=height,
                scheduler=scheduler,
            ),
            out=Path(out) if out is not None else None,
            force=force,
        )
        with self._workspace() as workspace:
            return sweep(workspace, options, self._base)

    def tune(
        self,
        prompt: str | None = None,
        *,
        scene: str | None = None,
        biases: Iterable[float] | None = None,
        temperatures: Iterable[float] | None = None,
        locks: Iterable[SceneLock] | None = None,
        residuals: Iterable[float] | None = None,
        choices: Mapping[str, Iterable[Value]] | None = None,
        files: Files = (),
        images: int = 72,
        seeds: Iterable[int] = range(4),
        negative_prompt: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        width: int | None = None,
        height: int | None = None,
        scheduler: str | None = None,
        sheet: str | Path | None = None,
        force: bool = False,
        dry_run: bool = False,
    ) -> TuneResult:
        """Let pictures choose a prompt's gates, by likeness to the concepts and to the text.

        scene: of the manifest, where the result is written, unless this is a dry run. biases, temperatures,
        locks, residuals: what may be chosen; None for the paper's values, all locks that are possible, and
        the usual strengths of a residual with the gate as it is. choices: the same of any options of the
        concepts' methods, by their names, such as `{"residual": (0.5, 1.0)}`. images: pictures to draw at
        most. seeds: what each choice is judged on. sheet: a file for the pictures before and after. The rest
        as in `render`.
        """
        named = {"bias": biases, "temperature": temperatures, "lock": locks, "residual": residuals}
        options = TuneOptions(
            prompt=prompt,
            scene=scene,
            choices=choices_of([*named.items(), *(choices or {}).items()]),
            images=images,
            overrides=RenderOverrides(
                seeds=tuple(seeds),
                steps=steps,
                guidance=guidance,
                negative_prompt=negative_prompt,
                width=width,
                height=height,
                scheduler=scheduler,
            ),
            files=tuple(map(Path, several(files))),
            sheet=Path(sheet) if sheet is not None else None,
            force=force,
            locked=self._locked,
            frozen=self._frozen,
            dry_run=dry_run,
        )
        with self._workspace() as workspace:
            return tune(workspace, options, self._base)

    def _prompt(
        self, prompt: str | None, scene: str | None, gates: Gates | None, files: Files
    ) -> PromptOptions:
        return PromptOptions(prompt=prompt, **self._how(scene, gates, files))

    def _how(self, scene: str | None, gates: Gates | None, files: Files) -> dict[str, Any]:
        """How prompts are composed."""
        return {
            "scene": scene,
            "gates": gate_sources(gates),
            "files": tuple(map(Path, several(files))),
            "base": self._another,
            "covariance": self._covariance,
            "locked": self._locked,
            "frozen": self._frozen,
        }
