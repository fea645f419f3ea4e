"""`render`: draw prompts, a composition, or a picture again, into files and onto a contact sheet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from perfusion_registry.amounts import count
from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.cluster_render import draw_on
from perfusion_registry.operations.drawing import (
    DrawnPicture,
    OutputOptions,
    PlannedJob,
    Written,
    draw_jobs,
)
from perfusion_registry.operations.job import RenderOverrides, Source, load_job
from perfusion_registry.operations.prompt_list import PromptList, load_list
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.render.output import is_file_name
from perfusion_registry.render.parameters import title_of
from perfusion_registry.reporter import Located
from perfusion_registry.shards import WHOLE, idle

if TYPE_CHECKING:
    from perfusion_registry.cluster.address import ClusterAddress


@dataclass(frozen=True, kw_only=True)
class RenderOptions(OutputOptions):
    """What to draw, and where to."""

    source: Source
    overrides: RenderOverrides = field(default_factory=RenderOverrides)


@dataclass(frozen=True, kw_only=True)
class RenderListOptions(OutputOptions):
    """Which prompts to draw, and where to. overrides: of all pictures; what a line says goes first. cluster:
    machines that draw, if not this one alone."""

    prompts: PromptList
    overrides: RenderOverrides = field(default_factory=RenderOverrides)
    cluster: ClusterAddress | None = None

    def __post_init__(self) -> None:
        """Raise PerfError, too, for a part of what a cluster shares out."""
        super().__post_init__()
        if self.cluster is not None and self.prompts.shard != WHOLE:
            raise PerfError(
                "a cluster shares the prompts out itself",
                where=f"--shard {self.prompts.shard[0]}/{self.prompts.shard[1]}",
                hint="leave it out",
            )


class RenderResult(Result):
    """`perf render`."""

    schema_: Literal["perf.render/1"] = named("perf.render/1")
    pictures: tuple[DrawnPicture, ...]
    sheet: str | None
    composition: Composition

    @property
    def first(self) -> str:
        """The path of the first picture."""
        return self.pictures[0].path


class DrawnPrompt(FileModel):
    """One prompt of a list. place: where it stands, such as `prompts.txt:3`."""

    place: str
    pictures: tuple[DrawnPicture, ...]
    composition: Composition


class RenderListResult(Result):
    """`perf render --prompts`: the prompts in their order."""

    schema_: Literal["perf.render-list/1"] = named("perf.render-list/1")
    prompts: tuple[DrawnPrompt, ...]
    sheet: str | None

    @property
    def first(self) -> str | None:
        """The path of the first picture; None where a shard has none."""
        return self.prompts[0].pictures[0].path if self.prompts else None


def render(workspace: Workspace, options: RenderOptions, *, written: Written | None = None) -> RenderResult:
    """Draw and write pictures, each as soon as it is done."""
    job = load_job(workspace, options.source, options.overrides)
    planned = PlannedJob(job, workspace.reporter)
    ((pictures,), sheet) = draw_jobs(workspace, [planned], options, title_of(job.loaded.composition), written)
    return RenderResult(pictures=pictures, sheet=sheet, composition=job.loaded.composition)


def render_list(
    workspace: Workspace, options: RenderListOptions, *, written: Written | None = None
) -> RenderListResult:
    """Draw and write the pictures of all prompts, each as soon as it is done, with one base.

    Of a shard without a prompt it is said that there is nothing to do. Raises PerfError with every mistake of
    every prompt, whichever shard draws it, before the first picture is drawn; such a shard loads no base, and
    tells what is wrong without one.
    """
    prompts = options.prompts
    if len(prompts.lines) > 1 and options.out is not None and is_file_name(options.out):
        raise PerfError(
            f"--out is one file, and {prompts.name} has {len(prompts.lines)} prompts",
            where=str(options.out),
            hint="name a folder: a picture's name has its prompt and its seed",
        )
    if options.cluster is not None:
        from perfusion_registry.cluster.connection import require_ray

        require_ray()
    every = load_list(workspace, prompts, options.overrides)
    if not every:
        workspace.reporter.note(idle(prompts.shard, count(len(prompts.lines), "prompt")))
        return RenderListResult(prompts=(), sheet=None)
    listed = [one for one in every if not one.elsewhere]
    title = f"{len(listed)} prompts of {prompts.name}"
    jobs = [PlannedJob(one.job, Located(workspace.reporter, one.line.place), one.elsewhere) for one in every]
    cluster, compute = options.cluster, prompts.compute
    drawn_by = None if cluster is None else partial(draw_on, cluster, workspace, compute)
    pictures, sheet = draw_jobs(workspace, jobs, options, title, written, drawn_by)
    return RenderListResult(
        prompts=tuple(
            DrawnPrompt(place=one.line.place, pictures=drawn, composition=one.job.loaded.composition)
            for one, drawn in zip(listed, pictures, strict=True)
        ),
        sheet=sheet,
    )


def drawing_of(
    source: Source | PromptList, cluster: ClusterAddress | None = None, **how: Any
) -> Callable[[Workspace, Written | None], RenderResult | RenderListResult]:
    """What draws one source or a list of prompts. cluster: of a list alone. how: the other options of either.
    Raises PerfError for options that cannot be."""
    if isinstance(source, PromptList):
        of_all = RenderListOptions(prompts=source, cluster=cluster, **how)
        return lambda workspace, written: render_list(workspace, of_all, written=written)
    if cluster is not None:
        raise PerfError(
            "a cluster draws a list of prompts",
            where=f"--on {cluster.on}",
            hint="give the list with --prompts FILE",
        )
    options = RenderOptions(source=source, **how)
    return lambda workspace, written: render(workspace, options, written=written)
