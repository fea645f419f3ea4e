"""Drawing planned jobs: their pictures into files, and all of them onto a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.methods.table import find_method
from perfusion_registry.operations.job import RenderJob
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.render.formats import FORMATS, PictureFormat, format_of
from perfusion_registry.render.output import (
    check_formats,
    check_places,
    check_sheet,
    chosen_format,
    picture_paths,
    slug,
    write_picture,
)
from perfusion_registry.render.parameters import title_of
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import ProjectFolder

if TYPE_CHECKING:
    from PIL import Image

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


class DrawnPicture(FileModel):
    """One picture that was drawn."""

    path: str
    seed: int


Written = Callable[[str], None]
"""Called with every path once its file is there."""


class PlannedJob:
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


Drawn = Generator[tuple[int, int, "Image.Image", bytes]]
"""The number of a job, the index of a picture of it, the picture and its file; each as soon as it is done."""

Draw = Callable[["Sequence[PlannedJob]", PictureFormat, "int | None"], Drawn]
"""Draws jobs into files of a format and a quality."""


def drawn_here(jobs: Sequence[PlannedJob], kind: PictureFormat, quality: int | None) -> Drawn:
    """Draw in this process."""
    from perfusion_registry.render.metadata import picture_bytes

    for number, one in enumerate(jobs):
        for index, rendered in enumerate(one.job.draw(one.reporter)):
            if index in one.records:
                image, record = rendered.image, rendered.record
                yield number, index, image, picture_bytes(image, record, kind, quality)


def draw_jobs(
    workspace: Workspace,
    jobs: Sequence[PlannedJob],
    options: OutputOptions,
    title: str,
    written: Written | None,
    drawn_by: Draw | None = None,
) -> tuple[list[tuple[DrawnPicture, ...]], str | None]:
    """Draw all jobs, whose base is one, and write their pictures and the sheet, whose title is `title`.

    written: called with every path. drawn_by: what draws, if not this process. Raises PerfError, before
    anything is drawn, for files that are there or cannot be written and for records that a format cannot
    hold.
    """
    from perfusion_registry.render.metadata import check_record, sheet_bytes
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
        elsewhere = one.elsewhere or drawn_by is not None
        how: dict[str, Any] = {"force": options.force, "suffix": suffix, "elsewhere": elsewhere}
        free = picture_paths(out, slug(one.title), wanted, taken, **how)
        paths.append(dict(zip(one.records, free, strict=True)))
    paths = [names for one, names in zip(jobs, paths, strict=True) if not one.elsewhere]
    jobs = [one for one in jobs if not one.elsewhere]
    every = [record for one in jobs for record in one.records.values()]
    if options.sheet is not None:
        check_sheet(options.sheet, every, force=options.force)
    check_places([path for names in paths for path in names.values()], options.sheet)

    tile_of: dict[tuple[int, int], Tile] = {}
    with closing((drawn_by or drawn_here)(jobs, kind, quality)) as each:
        for number, index, image, data in each:
            path = paths[number][index]
            write_picture(path, data)
            if options.sheet is not None:
                one = jobs[number]
                caption = f"seed {one.records[index].seed}" + ("" if len(jobs) == 1 else f": {one.title}")
                tile_of[number, index] = Tile(image, caption)
            if written:
                written(str(path))
    pictures = [
        tuple(DrawnPicture(path=str(path), seed=one.records[index].seed) for index, path in names.items())
        for one, names in zip(jobs, paths, strict=True)
    ]
    if options.sheet is None:
        return pictures, None
    tiles = [tile for _, tile in sorted(tile_of.items())]
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
