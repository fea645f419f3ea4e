"""What to draw, and with which base: checked before torch is imported, then loaded."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Store, cache_dir
from perfusion_registry.base import describe_base
from perfusion_registry.cli.given import Given, Wanted
from perfusion_registry.cli.prompting import Place, Ready, loaded, ready
from perfusion_registry.compose.composing import GateSources, regated
from perfusion_registry.compose.composition import (
    ComposedBase,
    Composition,
    parse_composition,
    read_composition,
)
from perfusion_registry.compose.concept import stored_artifacts
from perfusion_registry.compose.prompt import Gate
from perfusion_registry.errors import PerfError
from perfusion_registry.render.request import RenderRequest, resolve_request
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import Project

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription
    from perfusion_registry.render.metadata import RenderRecord

Gates = tuple[dict[str, Gate], Gate]


@dataclass(frozen=True)
class Work:
    """What to draw. index: the one picture of the request that is wanted; None for all of them."""

    ready: Ready
    request: RenderRequest
    index: int | None = None


def from_prompt(
    place: Place, prompt: str | None, scene: str | None, given: Given, gates: Gates, reporter: Reporter
) -> Work:
    """Draw a prompt, or a scene, of the project."""
    found = ready(place, prompt, scene, gates, reporter)
    return Work(found, _request(found, given))


def to_tune(place: Place, wanted: Wanted, given: Given, reporter: Reporter) -> Work:
    """Draw what is to be tuned. A scene that is there already is where the search starts from."""
    scene = wanted.scene
    if scene is not None and scene not in Project.find(place.project).manifest.scenes:
        if wanted.prompt is None:
            raise PerfError(
                f"there is no scene {scene!r} yet, so it has no prompt to tune",
                where="--scene",
                hint=f"perf tune 'a teddy* in the snow' --scene {scene}",
            )
        scene = None
    return from_prompt(place, wanted.prompt, scene, given, ({}, Gate()), reporter)


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
    from perfusion_registry.render.metadata import read_metadata

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

    from perfusion_registry.render.draw import native_size, planned

    request = record.request
    if given.values:
        alone = {"seeds": (record.seed,), "batch": 1}
        values = {**record.request.model_dump(), **alone, **given.values}
        return Work(found, resolve_request(values, {}, native_size=native_size(found.base)))
    _warn_of_versions(record, planned(found.base, found.composition, request)[record.index], reporter)
    return Work(found, request, record.index)


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
    from perfusion_registry.render.draw import native_size

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
