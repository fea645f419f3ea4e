"""`render`: draw prompts, a composition, or a picture again, into files and onto a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from perfusion_registry.amounts import count
from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.table import find_method
from perfusion_registry.operations.job import RenderJob, RenderOverrides, Source, load_job
from perfusion_registry.operations.prompt_list import PromptList, load_list
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.render.formats import FORMATS, PictureFormat, format_of
from perfusion_registry.render.output import (
    check_formats,
    check_sheet,
    chosen_format,
    is_file_name,
    picture_paths,
    slug,
    write_picture,
)
from perfusion_registry.render.parameters import title_of
from perfusion_registry.reporter import Located, Reporter
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.shards import idle

FOLDER = "renders"
"""Where pictures go in a project, unless another place is named."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where pictures go. out: a folder or a file; None is `renders/` of the project.

    sheet: a file for a contact sheet, beside the concepts' own images. force: overwrite other files. format:
    of the pictures; None is what the name of `out` asks for, else PNG; a sheet's is that of its name.
    quality: 1 to 100 of JPEG and WebP; None is 90.
    """

    out: Path | None = None
    sheet: Path | None = None
    force: bool = False
    format: PictureFormat | None = None
    quality: int | None = None

    def __post_init__(self) -> None:
        """Raise PerfError for a format or a quality that cannot be."""
        check_formats(self.out, self.sheet)
        chosen_format(self.out, self.format, self.quality)


@dataclass(frozen=True, kw_only=True)
class RenderOptions(OutputOptions):
    """What to draw, and where to."""

    source: Source
    overrides: RenderOverrides = field(default_factory=RenderOverrides)


@dataclass(frozen=True, kw_only=True)
class RenderListOptions(OutputOptions):
    """Which prompts to draw, and where to. overrides: of all pictures; what a line says goes first."""

    prompts: PromptList
    overrides: RenderOverrides = field(default_factory=RenderOverrides)


class DrawnPicture(FileModel):
    """One picture that was drawn."""

    path: str
    seed: int


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


Written = Callable[[str], None]
"""Called with every path once its file is there."""


def render(workspace: Workspace, options: RenderOptions, *, written: Written | None = None) -> RenderResult:
    """Draw and write pictures, each as soon as it is done."""
    job = load_job(workspace, options.source, options.overrides)
    planned = _Planned(job, workspace.reporter)
    ((pictures,), sheet) = _draw(workspace, [planned], options, title_of(job.loaded.composition), written)
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
    every = load_list(workspace, prompts, options.overrides)
    if not every:
        workspace.reporter.note(idle(prompts.shard, count(len(prompts.lines), "prompt")))
        return RenderListResult(prompts=(), sheet=None)
    listed = [one for one in every if not one.elsewhere]
    title = f"{len(listed)} prompts of {prompts.name}"
    jobs = [_Planned(one.job, Located(workspace.reporter, one.line.place), one.elsewhere) for one in every]
    pictures, sheet = _draw(workspace, jobs, options, title, written)
    return RenderListResult(
        prompts=tuple(
            DrawnPrompt(place=one.line.place, pictures=drawn, composition=one.job.loaded.composition)
            for one, drawn in zip(listed, pictures, strict=True)
        ),
        sheet=sheet,
    )


def drawing_of(
    source: Source | PromptList, **how: Any
) -> Callable[[Workspace, Written | None], RenderResult | RenderListResult]:
    """What draws one source or a list of prompts. how: the other options of either. Raises PerfError for
    options that cannot be."""
    if isinstance(source, PromptList):
        of_all = RenderListOptions(prompts=source, **how)
        return lambda workspace, written: render_list(workspace, of_all, written=written)
    options = RenderOptions(source=source, **how)
    return lambda workspace, written: render(workspace, options, written=written)


class _Planned:
    """A job, and the records of the pictures that are wanted of it, by their indices. elsewhere: another
    shard draws it, and here it has names alone."""

    def __init__(self, job: RenderJob, reporter: Reporter, elsewhere: bool = False) -> None:
        from perfusion_registry.render.draw import planned

        self.job, self.reporter, self.elsewhere = job, reporter, elsewhere
        records = enumerate(planned(job.loaded.base, job.loaded.composition, job.request))
        self.records = {index: record for index, record in records if job.index in (None, index)}

    @property
    def title(self) -> str:
        """Its prompt."""
        return title_of(self.job.loaded.composition)


def _draw(
    workspace: Workspace,
    jobs: Sequence[_Planned],
    options: OutputOptions,
    title: str,
    written: Written | None,
) -> tuple[list[tuple[DrawnPicture, ...]], str | None]:
    """Draw all jobs, whose base is one, and write their pictures and the sheet, whose title is `title`."""
    from perfusion_registry.render.metadata import check_record, picture_bytes, sheet_bytes
    from perfusion_registry.render.references import references
    from perfusion_registry.render.sheet import Tile, contact_sheet

    project = jobs[0].job.loaded.project
    out = options.out if options.out is not None else folder_of(project)
    kind = chosen_format(options.out, options.format, options.quality)
    suffix, quality = FORMATS[kind][0], options.quality
    taken: set[Path] = set()
    paths: list[dict[int, Path]] = []
    for one in jobs:
        wanted = list(one.records.values())
        for record in wanted:
            check_record(record, kind)
        how: dict[str, Any] = {"force": options.force, "suffix": suffix, "elsewhere": one.elsewhere}
        free = picture_paths(out, slug(one.title), wanted, taken, **how)
        paths.append(dict(zip(one.records, free, strict=True)))
    paths = [names for one, names in zip(jobs, paths, strict=True) if not one.elsewhere]
    jobs = [one for one in jobs if not one.elsewhere]
    every = [record for one in jobs for record in one.records.values()]
    if options.sheet is not None:
        check_sheet(options.sheet, every, force=options.force)

    pictures: list[tuple[DrawnPicture, ...]] = []
    tiles: list[Tile] = []
    for one, path_of in zip(jobs, paths, strict=True):
        done = []
        drawn = one.job.draw(one.reporter)
        for index, rendered in enumerate(drawn):
            if index not in path_of:
                continue
            write_picture(path_of[index], picture_bytes(rendered.image, rendered.record, kind, quality))
            done.append(DrawnPicture(path=str(path_of[index]), seed=rendered.seed))
            if options.sheet is not None:
                caption = f"seed {rendered.seed}" + ("" if len(jobs) == 1 else f": {one.title}")
                tiles.append(Tile(rendered.image, caption))
            if written:
                written(done[-1].path)
        pictures.append(tuple(done))
    if options.sheet is None:
        return pictures, None
    compositions = [one.job.loaded.composition for one in jobs]
    beside = references(compositions, project, reporter=workspace.reporter)
    notes = dict.fromkeys(note_of(one.job, options=len(jobs) == 1) for one in jobs)
    note = next(iter(notes)) if len(notes) == 1 else compositions[0].base.repo
    sheet = contact_sheet(title, beside, tiles, note=note)
    write_picture(options.sheet, sheet_bytes(sheet, every, format_of(options.sheet) or "png"), "--sheet")
    if written:
        written(str(options.sheet))
    return pictures, str(options.sheet)


def note_of(job: RenderJob, *, options: bool = True) -> str:
    """The small type of a sheet: the base, the sampler, and how each concept is drawn."""
    request, composition = job.request, job.loaded.composition
    parts = [
        composition.base.repo,
        f"{request.steps} {request.scheduler} steps",
        f"guidance {request.guidance:g}",
    ]
    for concept in composition.concepts if options else ():
        summary = find_method(concept.method).summary(concept.render, brief=True)
        parts.append(f"{concept.name}* {summary or concept.method}")
    return " · ".join(parts)


def folder_of(project: ProjectFolder | None) -> Path:
    """`renders/` of the project, as seen from the working directory where it lies below."""
    folder = (project.root if project else Path.cwd()) / FOLDER
    return Path(os.path.relpath(folder)) if folder.is_relative_to(Path.cwd()) else folder
