"""`render`: draw a prompt, a composition, or a picture again, into files and onto a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.methods.table import find_method
from perfusion_registry.operations.job import RenderJob, RenderOverrides, Source, load_job
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.render.output import check_formats, check_sheet, picture_paths, slug, write_picture
from perfusion_registry.resolve import ProjectFolder

FOLDER = "renders"
"""Where pictures go in a project, unless another place is named."""


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """What to draw, and where to. out: a folder or a PNG file; None is `renders/` of the project.

    sheet: a file for a contact sheet, beside the concepts' own images. force: overwrite other files.
    """

    source: Source
    overrides: RenderOverrides = field(default_factory=RenderOverrides)
    out: Path | None = None
    sheet: Path | None = None
    force: bool = False


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


def render(
    workspace: Workspace, options: RenderOptions, *, written: Callable[[str], None] | None = None
) -> RenderResult:
    """Draw and write pictures, each as soon as it is done.

    written: called with every path once its file is there.
    """
    check_formats(options.out, options.sheet)
    job = load_job(workspace, options.source, options.overrides)

    from perfusion_registry.render.draw import planned
    from perfusion_registry.render.draw import render as draw
    from perfusion_registry.render.metadata import png_bytes, sheet_bytes
    from perfusion_registry.render.references import references
    from perfusion_registry.render.sheet import Tile, contact_sheet

    loaded, reporter = job.loaded, workspace.reporter
    composition = loaded.composition
    chosen = [
        (index, record)
        for index, record in enumerate(planned(loaded.base, composition, job.request))
        if job.index in (None, index)
    ]
    records = [record for _, record in chosen]
    out = options.out if options.out is not None else folder_of(loaded.project)
    paths = picture_paths(out, slug(title_of(composition)), records, force=options.force)
    if options.sheet is not None:
        check_sheet(options.sheet, records, force=options.force)

    path_of = {index: path for (index, _), path in zip(chosen, paths, strict=True)}
    pictures: list[DrawnPicture] = []
    tiles: list[Tile] = []
    drawn = draw(loaded.base, composition, job.request, loaded.artifacts, reporter=reporter)
    for index, rendered in enumerate(drawn):
        if index not in path_of:
            continue
        write_picture(path_of[index], png_bytes(rendered.image, rendered.record))
        pictures.append(DrawnPicture(path=str(path_of[index]), seed=rendered.seed))
        tiles.append(Tile(rendered.image, f"seed {rendered.seed}"))
        if written:
            written(pictures[-1].path)
    if options.sheet is not None:
        beside = references(composition, loaded.project, reporter=reporter)
        sheet = contact_sheet(title_of(composition), beside, tiles, note=note_of(job))
        write_picture(options.sheet, sheet_bytes(sheet, records))
        if written:
            written(str(options.sheet))
    return RenderResult(
        pictures=tuple(pictures),
        sheet=str(options.sheet) if options.sheet else None,
        composition=composition,
    )


def title_of(composition: Composition) -> str:
    """The prompt as a person reads it, its escapes resolved."""
    return parse_prompt(composition.prompt).spoken({c.name: f"{c.name}*" for c in composition.concepts})


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
