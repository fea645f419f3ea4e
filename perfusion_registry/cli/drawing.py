"""From the options of `perf render` and `perf sweep` to files: what to draw, with which base, and where."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.artifact import Store, cache_dir
from perfusion_registry.base import describe_base
from perfusion_registry.cli.prompting import FOLDER, Outputs, Place, Ready, loaded, ready
from perfusion_registry.compose.composing import GateSources, regated
from perfusion_registry.compose.composition import (
    ComposedBase,
    Composition,
    parse_composition,
    read_composition,
)
from perfusion_registry.compose.concept import stored_artifacts
from perfusion_registry.compose.prompt import Gate, gate_value, parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import canonical_name
from perfusion_registry.render.draw import native_size, planned, render
from perfusion_registry.render.grid import gated, sweep, sweep_sheet
from perfusion_registry.render.metadata import RenderRecord, png_bytes, read_metadata, sheet_bytes
from perfusion_registry.render.output import check_sheet, picture_paths, slug, write_picture
from perfusion_registry.render.references import references
from perfusion_registry.render.request import RenderRequest, resolve_request
from perfusion_registry.render.sheet import Tile, contact_sheet
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import Project

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription

Gates = tuple[dict[str, Gate], Gate]


@dataclass(frozen=True)
class Work:
    """What to draw. index: the one picture of the request that is wanted; None for all of them."""

    ready: Ready
    request: RenderRequest
    index: int | None = None


@dataclass(frozen=True)
class Given:
    """The fields of a request that the command line sets."""

    values: dict[str, Any]

    @classmethod
    def read(
        cls,
        seed: int | None,
        count: int | None,
        steps: int | None,
        guidance: float | None,
        negative: str | None,
        size: str | None,
        scheduler: str | None,
        batch: int | None,
    ) -> Given:
        """Read the options; None is one that was not given."""
        width, height = _size(size) if size is not None else (None, None)
        seeds = None
        if seed is not None or count is not None:
            seeds = tuple(range(seed or 0, (seed or 0) + (1 if count is None else count)))
        values = {
            "seeds": seeds,
            "steps": steps,
            "guidance": guidance,
            "negative_prompt": negative,
            "width": width,
            "height": height,
            "scheduler": scheduler,
            "batch": batch,
        }
        set_values = {key: value for key, value in values.items() if value is not None}
        resolve_request(set_values, {}, native_size=(64, 64))  # mistakes are told before a base is loaded
        return cls(set_values)


def from_prompt(
    place: Place, prompt: str | None, scene: str | None, given: Given, gates: Gates, reporter: Reporter
) -> Work:
    """Draw a prompt, or a scene, of the project."""
    found = ready(place, prompt, scene, gates, reporter)
    return Work(found, _request(found, given))


def from_composition(place: Place, path: Path, given: Given, gates: Gates, reporter: Reporter) -> Work:
    """Draw a composition file, or, for `-`, what stdin says."""
    if str(path) == "-":
        composition = parse_composition(sys.stdin.read(), where="stdin")
    else:
        composition = read_composition(path)
    project = _project(place.project)
    description = _base_for(project, place, composition.base)
    if description.digest != composition.base.digest:
        reporter.warn(
            f"the composition was made for {composition.base.repo}; "
            f"it is drawn with {description.repo}, of the same family"
        )
    found = _ready(project, place, description, composition, gates, reporter)
    return Work(found, _request(found, given))


def from_picture(place: Place, path: Path, given: Given, gates: Gates, reporter: Reporter) -> Work:
    """Draw again what made a picture, with the changes that the options ask for.

    Device and number formats are those of the picture unless the command line chooses others.
    """
    record = read_metadata(path)
    project = _project(place.project)
    description = _base_for(project, place, record.composition.base)
    if description.digest != record.composition.base.digest:
        raise PerfError(
            f"the picture was drawn with another base, {record.composition.base.repo} "
            f"({record.composition.base.digest[:12]})",
            where=str(path),
            hint=f"the base here is {description.repo} ({description.digest[:12]})",
        )
    there = replace(
        place,
        device=record.device if place.device == "auto" else place.device,
        dtype=record.dtype if place.dtype == "auto" else place.dtype,
    )
    compute_dtype = record.compute_dtype if place.dtype == "auto" else "auto"
    found = _ready(project, there, description, record.composition, gates, reporter, compute_dtype)
    request = record.request.model_copy(update={})
    if given.values:
        alone = {"seeds": (record.seed,), "batch": 1}
        values = {**record.request.model_dump(), **alone, **given.values}
        return Work(found, resolve_request(values, {}, native_size=native_size(found.base)))
    _warn_of_versions(record, planned(found.base, found.composition, request)[record.index], reporter)
    return Work(found, request, record.index)


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


@dataclass(frozen=True)
class Grid:
    """The gates of a sweep. names: the concepts whose gates vary; None for all."""

    biases: tuple[float, ...]
    temperatures: tuple[float, ...]
    names: tuple[str, ...] | None

    @classmethod
    def read(cls, bias: str, temperature: str, concepts: list[str] | None) -> Grid:
        """Read comma-separated numbers, each once and in order, and concept names."""
        names = (
            tuple(canonical_name(name.lower().removesuffix("*")) for name in concepts) if concepts else None
        )
        return cls(numbers("bias", bias), numbers("temperature", temperature), names)


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


def _ready(
    project: Project | None,
    place: Place,
    description: BaseDescription,
    composition: Composition,
    gates: Gates,
    reporter: Reporter,
    compute_dtype: str = "auto",
) -> Ready:
    """Make a composition from a file ready to draw; its artifacts come from the store by their digests."""
    composition = regated(composition, GateSources(*gates))
    artifacts = stored_artifacts(composition, Store(cache_dir()))
    base = loaded(description, place, reporter, compute_dtype)
    return Ready(project, base, composition, artifacts)


def _project(start: Path | None) -> Project | None:
    """The project, if there is one; a file that names everything by digest needs none."""
    try:
        return Project.find(start)
    except PerfError:
        if start is not None:
            raise
        return None


def _base_for(project: Project | None, place: Place, wanted: ComposedBase) -> BaseDescription:
    """The very base that is wanted, if it is at hand; else the project's own, else what has its name."""
    root = project.root if project else None
    names = [project.manifest.project.base] if project else []
    names.append(wanted.repo if wanted.revision is None else f"{wanted.repo}@{wanted.revision}")
    found: list[BaseDescription] = []
    problems: list[PerfError] = []
    for name in names:
        try:
            found.append(describe_base(name, root=root, allow_download=place.allow_download))
        except PerfError as error:
            problems.append(error)
            continue
        if found[-1].digest == wanted.digest:
            return found[-1]
    if not found:
        raise problems[0]
    return next((base for base in found if base.family == wanted.family), found[0])


def _request(found: Ready, given: Given) -> RenderRequest:
    base = found.base
    return resolve_request(given.values, base.description.card.render, native_size=native_size(base))


def _warn_of_versions(then: RenderRecord, now: RenderRecord, reporter: Reporter) -> None:
    """Say what differs from when a picture was drawn, because its pixels may then differ too."""
    differ = [
        f"{name} {version} (now {now.libraries[name]})"
        for name, version in then.libraries.items()
        if name in now.libraries and now.libraries[name] != version
    ]
    for key in ("device", "dtype", "compute_dtype"):
        if getattr(then, key) != getattr(now, key):
            differ.append(f"{key} {getattr(then, key)} (now {getattr(now, key)})")
    if differ:
        reporter.warn(f"the picture was drawn with {', '.join(differ)}: pixels may differ")


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


def _size(text: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d{1,5})(?:[x×](\d{1,5}))?", text.strip().lower())
    if numbers is None:
        raise PerfError(f"{text!r} is no size", where="--size", hint="write it as 512x512")
    return int(numbers[1]), int(numbers[2] or numbers[1])


def numbers(key: str, text: str) -> tuple[float, ...]:
    """Read comma-separated numbers of the gate option `key`, each once and in order."""
    values = []
    for part in text.split(","):
        try:
            values.append(float(gate_value(key, part.strip())[key]))
        except PerfError as error:
            raise PerfError(error.what, where=f"--{key} {text}", hint=error.hint) from error
    return tuple(sorted(set(values)))
