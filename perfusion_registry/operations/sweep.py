"""`sweep`: draw a prompt over a grid of two settings, all with one seed, as in the paper's Figure 7."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.settings import Axis
from perfusion_registry.methods.table import check_choices
from perfusion_registry.operations.compose import PromptOptions
from perfusion_registry.operations.job import RenderOverrides, load_job
from perfusion_registry.operations.render import folder_of, note_of, title_of
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.render.output import check_formats, check_sheet, slug, write_picture

if TYPE_CHECKING:
    from perfusion_registry.base import Base


@dataclass(frozen=True)
class Grid:
    """What is swept, from left to right and from top to bottom. names: the concepts that vary; None for all
    that have both settings.
    """

    across: Axis
    down: Axis
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

    def __post_init__(self) -> None:
        """Raise PerfError for a setting that no method has, and for values that it cannot have."""
        for axis in (self.grid.across, self.grid.down):
            check_choices(axis.key, axis.values)


class SweepResult(Result):
    """`perf sweep`. biases, temperatures: of gates, where these were swept; axes: whatever was."""

    schema_: Literal["perf.sweep/1"] = named("perf.sweep/1")
    sheet: str
    biases: tuple[float, ...]
    temperatures: tuple[float, ...]
    composition: Composition
    axes: InProcess[tuple[Axis, Axis]]


def sweep(workspace: Workspace, options: SweepOptions, loaded: Base | None = None) -> SweepResult:
    """Draw the grid, and write its sheet. loaded: as in `load_base`."""
    check_formats(None, options.out)
    job = load_job(workspace, options.prompt, options.overrides, loaded)

    from perfusion_registry.render.draw import planned
    from perfusion_registry.render.grid import sweep as draw
    from perfusion_registry.render.grid import sweep_sheet, sweepable, swept
    from perfusion_registry.render.metadata import sheet_bytes

    ready, grid = job.loaded, options.grid
    composition, axes = ready.composition, (grid.across, grid.down)
    called = [concept.name for concept in composition.concepts]
    names = list(grid.names) if grid.names is not None else sweepable(composition, axes)
    strangers = [name for name in names if name not in called]
    if strangers or not called:
        raise PerfError(
            f"the prompt does not call {strangers[0]!r}"
            if strangers
            else "the prompt calls no concept to sweep",
            hint=f"it calls {', '.join(called)}" if called else "call one with a star: teddy*",
        )
    still = [name for name in names or called if name not in sweepable(composition, axes)]
    if still and (grid.names is not None or not names):
        raise PerfError(
            f"{still[0]!r} has no {axes[0].key} and {axes[1].key} to sweep: "
            f"it is of the method `{composition.concept(still[0]).method}`",
            hint="`perf compose PROMPT` shows what can be set for each concept",
        )
    seed = job.request.seeds[0]
    path = options.out or folder_of(ready.project) / f"{slug(title_of(composition))}-sweep-{seed}.png"
    one = job.request.model_copy(update={"seeds": (seed,), "batch": 1})
    records = [
        planned(ready.base, swept(composition, names, {grid.across.key: x, grid.down.key: y}), one)[0]
        for y in grid.down.values
        for x in grid.across.values
    ]
    check_sheet(path, records, force=options.force)
    cells = list(
        draw(
            ready.base,
            composition,
            job.request,
            ready.artifacts,
            grid.across,
            grid.down,
            names=names,
            reporter=workspace.reporter,
        )
    )
    varied = ", ".join(f"{name}*" for name in names)
    note = f"gates of {varied} · seed {seed} · {note_of(job, options=False)}"
    keys = (grid.across.key, grid.down.key)
    write_picture(path, sheet_bytes(sweep_sheet(title_of(composition), cells, keys, note=note), records))
    values = {axis.key: axis.values for axis in axes}
    return SweepResult(
        sheet=str(path),
        biases=values.get("bias", ()),
        temperatures=values.get("temperature", ()),
        composition=composition,
        axes=axes,
    )
