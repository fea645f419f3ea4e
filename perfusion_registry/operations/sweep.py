"""`sweep`: draw a prompt over a grid of two settings, all with one seed, as in the paper's Figure 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError, at
from perfusion_registry.methods.settings import Axis
from perfusion_registry.methods.table import check_choices, find_setting, read_choice, shipped_settings
from perfusion_registry.operations.compose import PromptOptions, require_call
from perfusion_registry.operations.drawing import folder_of, note_of
from perfusion_registry.operations.job import RenderOverrides, load_job
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.render.formats import format_of
from perfusion_registry.render.output import check_formats, check_sheet, slug, write_picture
from perfusion_registry.render.parameters import title_of

if TYPE_CHECKING:
    from perfusion_registry.base import Base


RELATIVE_BIASES = (0.6, 0.85, 0.95, 1.05, 1.15)
TEMPERATURES = (0.1, 0.15)
"""What is swept where nothing is said."""


@dataclass(frozen=True)
class Grid:
    """What is swept, from left to right and, unless that is None, from top to bottom. names: the concepts
    that vary; None for all that have these settings.
    """

    across: Axis
    down: Axis | None
    names: tuple[str, ...] | None = None

    @classmethod
    def read(
        cls,
        *,
        bias: str | None = None,
        temperature: str | None = None,
        across: str | None = None,
        down: str | None = None,
        names: Sequence[str] | None = None,
    ) -> Grid:
        """What a command line says: numbers of biases and temperatures, `KEY=V,V,...` across and down. Raises
        PerfError, whose place is the option; the rest as `of` does.
        """
        return cls.of(
            bias=_read_axis("bias", bias),
            temperature=_read_axis("temperature", temperature),
            across=_read_axis("across", across),
            down=_read_axis("down", down),
            names=names,
        )

    @classmethod
    def of(
        cls,
        *,
        bias: Axis | None = None,
        temperature: Axis | None = None,
        across: Axis | None = None,
        down: Axis | None = None,
        names: Sequence[str] | None = None,
    ) -> Grid:
        """Relative biases against temperatures, or what stands in the place of either; another setting
        across without anything down is one row. names: with or without their stars. Raises PerfError where
        both are given.
        """
        for side, stands, other, axis in (
            ("across", across, "bias", bias),
            ("down", down, "temperature", temperature),
        ):
            if stands is not None and axis is not None:
                raise PerfError(
                    f"{side} is both {stands.key} and {other}", hint=f"leave out one: {side}, or {other}"
                )
        below = down or temperature
        if below is None and across is None:
            below = Axis("temperature", TEMPERATURES)
        if names is not None:
            names = tuple(canonical_name(name.lower().removesuffix("*")) for name in names)
        return cls(across or bias or Axis("relative_bias", RELATIVE_BIASES), below, names)


def _read_axis(option: str, text: str | None) -> Axis | None:
    """One side of a sweep: an option of a setting and its numbers, or `KEY=V,V,...` as an option of another
    name says it; None where nothing is said."""
    if text is None:
        return None
    setting = shipped_settings().get(option)
    with at(f"--{option} {text}"):
        setting, values = (setting, setting.read_several(text)) if setting else read_choice(text)
        if setting.words:
            raise PerfError(f"`{setting.key}` is no number", hint="sweep a setting that is one")
    return Axis(setting.key, tuple(map(float, values)))


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
        """Raise PerfError for a setting that no method has, for values that it cannot have, and for several
        seeds.
        """
        across, down = self.grid.across, self.grid.down
        for axis in (across, down):
            if axis is not None:
                check_choices(axis.key, axis.values)
        if down is not None and _is_one(across, down):
            both = f"`{across.key}`"
            if across.key != down.key:
                both += f", in the place of `{down.key}`,"
            raise PerfError(f"{both} is swept on both sides", hint="sweep another setting on one of them")
        seeds = self.overrides.seeds or ()
        if len(seeds) > 1:
            raise PerfError(
                f"a sweep draws all its pictures with one seed, and {len(seeds)} are asked for",
                where="--seed",
                hint="say one, and sweep again for another",
            )


def _is_one(across: Axis, down: Axis) -> bool:
    """Whether two sides are one setting, or one in two measures."""
    one, other = find_setting(across.key), find_setting(down.key)
    return one.field == other.field or one.field == other.instead_of or one.instead_of == other.field


class SweepResult(Result):
    """`perf sweep`. biases, temperatures: of gates, where these were swept; axes: what else was, by key."""

    schema_: Literal["perf.sweep/1"] = named("perf.sweep/1")
    sheet: str
    biases: tuple[float, ...]
    temperatures: tuple[float, ...]
    composition: Composition
    axes: Annotated[dict[str, tuple[float, ...]], Field(exclude_if=lambda axes: not axes)] = Field(
        default_factory=dict
    )


def sweep(workspace: Workspace, options: SweepOptions, loaded: Base | None = None) -> SweepResult:
    """Draw the grid, and write its sheet. loaded: as in `load_base`."""
    check_formats(None, options.out)
    require_call(workspace, options.prompt, "sweep")
    job = load_job(workspace, options.prompt, options.overrides, loaded)

    from perfusion_registry.render.draw import planned
    from perfusion_registry.render.grid import Axes, sweep_sheet, sweepable, swept
    from perfusion_registry.render.grid import sweep as draw
    from perfusion_registry.render.metadata import sheet_bytes

    ready, grid = job.loaded, options.grid
    composition, axes = ready.composition, Axes(grid.across, grid.down)
    called = [concept.name for concept in composition.concepts]
    names = list(grid.names) if grid.names is not None else sweepable(composition, axes)
    strangers = [name for name in names if name not in called]
    if strangers:
        what = f"the prompt does not call {strangers[0]!r}"
        raise PerfError(what, hint=f"it calls {', '.join(called)}")
    still = [name for name in names or called if name not in sweepable(composition, axes)]
    if still and (grid.names is not None or not names):
        raise PerfError(
            f"{still[0]!r} has no {' and '.join(axes.keys)} to sweep: "
            f"it is of the method `{composition.concept(still[0]).method}`",
            hint="`perf compose PROMPT` shows what can be set for each concept",
        )
    seed = job.request.seeds[0]
    path = options.out or folder_of(ready.project) / f"{slug(title_of(composition))}-sweep-{seed}.png"
    request = job.request.model_copy(update={"seeds": (seed,), "batch": 1})
    records = [
        planned(ready.base, swept(composition, names, axes.settings(*place)), request)[0]
        for place in axes.places
    ]
    check_sheet(path, records, force=options.force)
    cells = list(
        draw(
            ready.base,
            composition,
            job.request,
            ready.artifacts,
            axes,
            names=names,
            reporter=workspace.reporter,
        )
    )
    varied = ", ".join(f"{name}*" for name in names)
    note = f"gates of {varied} · seed {seed} · {note_of(job, options=False)}"
    sheet = sweep_sheet(title_of(composition), cells, axes.keys, note=note)
    write_picture(path, sheet_bytes(sheet, records, format_of(path) or "png"))
    values = {axis.key: axis.values for axis in (grid.across, grid.down) if axis is not None}
    return SweepResult(
        sheet=str(path),
        biases=values.pop("bias", ()),
        temperatures=values.pop("temperature", ()),
        axes=values,
        composition=composition,
    )
