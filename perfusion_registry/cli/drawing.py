"""Drawing what `perf render` and `perf sweep` want, into files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.cli.given import Grid
from perfusion_registry.cli.prompting import FOLDER, Outputs
from perfusion_registry.cli.work import Work
from perfusion_registry.compose.composition import (
    Composition,
)
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.render.draw import planned, render
from perfusion_registry.render.grid import gated, sweep, sweep_sheet
from perfusion_registry.render.metadata import png_bytes, sheet_bytes
from perfusion_registry.render.output import check_sheet, picture_paths, slug, write_picture
from perfusion_registry.render.references import references
from perfusion_registry.render.sheet import Tile, contact_sheet
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import Project

if TYPE_CHECKING:
    pass


def draw(
    work: Work, outputs: Outputs, reporter: Reporter, *, tell: Callable[[str], None] | None
) -> list[tuple[Path, int]]:
    """Draw and write pictures, each as soon as it is done; returns their paths and seeds.

    tell: called with every path once the file is there.
    """
    found = work.ready
    composition = found.composition
    chosen = [
        (index, record)
        for index, record in enumerate(planned(found.base, composition, work.request))
        if work.index in (None, index)
    ]
    records = [record for _, record in chosen]
    out = outputs.out if outputs.out is not None else _folder(found.project)
    paths = picture_paths(out, slug(title_of(composition)), records, force=outputs.force)
    if outputs.sheet is not None:
        check_sheet(outputs.sheet, records, force=outputs.force)

    path_of = {index: path for (index, _), path in zip(chosen, paths, strict=True)}
    done: list[tuple[Path, int]] = []
    tiles: list[Tile] = []
    pictures = render(found.base, composition, work.request, found.artifacts, reporter=reporter)
    for index, rendered in enumerate(pictures):
        if index not in path_of:
            continue
        write_picture(path_of[index], png_bytes(rendered.image, rendered.record))
        done.append((path_of[index], rendered.seed))
        tiles.append(Tile(rendered.image, f"seed {rendered.seed}"))
        if tell:
            tell(str(path_of[index]))
    if outputs.sheet is not None:
        beside = references(composition, found.project, reporter=reporter)
        sheet = contact_sheet(title_of(composition), beside, tiles, note=_note(work))
        write_picture(outputs.sheet, sheet_bytes(sheet, records))
        if tell:
            tell(str(outputs.sheet))
    return done


def draw_grid(work: Work, grid: Grid, out: Path | None, reporter: Reporter, *, force: bool) -> Path:
    """Draw a sweep and write its sheet; returns the sheet's path."""
    found = work.ready
    composition = found.composition
    called = [concept.name for concept in composition.concepts]
    names = list(grid.names) if grid.names is not None else called
    strangers = [name for name in names if name not in called]
    if strangers or not called:
        raise PerfError(
            f"the prompt does not call {strangers[0]!r}"
            if strangers
            else "the prompt calls no concept to sweep",
            hint=f"it calls {', '.join(called)}" if called else "call one with a star: teddy*",
        )
    seed = work.request.seeds[0]
    path = out or _folder(found.project) / f"{slug(title_of(composition))}-sweep-{seed}.png"
    one = work.request.model_copy(update={"seeds": (seed,), "batch": 1})
    records = [
        planned(found.base, gated(composition, names, bias, temperature), one)[0]
        for temperature in grid.temperatures
        for bias in grid.biases
    ]
    check_sheet(path, records, force=force)
    cells = list(
        sweep(
            found.base,
            composition,
            work.request,
            found.artifacts,
            grid.biases,
            grid.temperatures,
            names=names,
            reporter=reporter,
        )
    )
    varied = ", ".join(f"{name}*" for name in names)
    note = f"gates of {varied} · seed {seed} · {_note(work, gates=False)}"
    write_picture(path, sheet_bytes(sweep_sheet(title_of(composition), cells, note=note), records))
    return path


def title_of(composition: Composition) -> str:
    """The prompt as a person reads it, its escapes resolved."""
    return parse_prompt(composition.prompt).spoken({c.name: f"{c.name}*" for c in composition.concepts})


def _note(work: Work, *, gates: bool = True) -> str:
    """The small type of a sheet: the base, the sampler, and the gates."""
    request, composition = work.request, work.ready.composition
    told = [
        composition.base.repo,
        f"{request.steps} {request.scheduler} steps",
        f"guidance {request.guidance:g}",
    ]
    for concept in composition.concepts if gates else ():
        lock = "" if concept.key_lock == "local" else f", {concept.key_lock} lock"
        strength = "" if concept.residual in {None, 1} else f", residual {concept.residual:g}"
        gate = f"bias {concept.bias:g}, temperature {concept.temperature:g}"
        told.append(f"{concept.name}* {gate}{lock}{strength}")
    return " · ".join(told)


def _folder(project: Project | None) -> Path:
    """`renders/` of the project, as seen from the working directory where it lies below."""
    folder = (project.root if project else Path.cwd()) / FOLDER
    return Path(os.path.relpath(folder)) if folder.is_relative_to(Path.cwd()) else folder
