"""`sweep`: draw a prompt over a grid of gate biases and temperatures, all with one seed, as in the paper's
Figure 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compose import PromptOptions
from perfusion_registry.operations.job import RenderOverrides, load_job
from perfusion_registry.operations.render import folder_of, note_of, title_of
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.render.output import check_formats, check_sheet, slug, write_picture

if TYPE_CHECKING:
    from perfusion_registry.base import Base


@dataclass(frozen=True)
class Grid:
    """The gates of a sweep. names: the concepts whose gates vary; None for all."""

    biases: tuple[float, ...]
    temperatures: tuple[float, ...]
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What to sweep. out: the sheet; None for one in `renders/` of the project.

    force: overwrite another file.
    """

    prompt: PromptOptions
    grid: Grid
    overrides: RenderOverrides = field(default_factory=RenderOverrides)
    out: Path | None = None
    force: bool = False


class SweepResult(Result):
    """`perf sweep`."""

    schema_: Literal["perf.sweep/1"] = named("perf.sweep/1")
    sheet: str
    biases: tuple[float, ...]
    temperatures: tuple[float, ...]
    composition: Composition


def sweep(workspace: Workspace, options: SweepOptions, loaded: Base | None = None) -> SweepResult:
    """Draw the grid, and write its sheet. loaded: as in `load_base`."""
    check_formats(None, options.out)
    job = load_job(workspace, options.prompt, options.overrides, loaded)

    from perfusion_registry.render.draw import planned
    from perfusion_registry.render.grid import gated, sweep_sheet
    from perfusion_registry.render.grid import sweep as draw
    from perfusion_registry.render.metadata import sheet_bytes

    ready, grid = job.loaded, options.grid
    composition = ready.composition
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
    seed = job.request.seeds[0]
    path = options.out or folder_of(ready.project) / f"{slug(title_of(composition))}-sweep-{seed}.png"
    one = job.request.model_copy(update={"seeds": (seed,), "batch": 1})
    records = [
        planned(ready.base, gated(composition, names, bias, temperature), one)[0]
        for temperature in grid.temperatures
        for bias in grid.biases
    ]
    check_sheet(path, records, force=options.force)
    cells = list(
        draw(
            ready.base,
            composition,
            job.request,
            ready.artifacts,
            grid.biases,
            grid.temperatures,
            names=names,
            reporter=workspace.reporter,
        )
    )
    varied = ", ".join(f"{name}*" for name in names)
    note = f"gates of {varied} · seed {seed} · {note_of(job, gates=False)}"
    write_picture(path, sheet_bytes(sweep_sheet(title_of(composition), cells, note=note), records))
    return SweepResult(
        sheet=str(path), biases=grid.biases, temperatures=grid.temperatures, composition=composition
    )
