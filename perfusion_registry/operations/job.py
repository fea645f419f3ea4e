"""What to draw, and by which base: a prompt, a composition or what made a picture, checked before torch is
imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.upscaler import find_upscaler
from perfusion_registry.compose.composing import SettingSources, regated
from perfusion_registry.compose.composition import ComposedBase, Composition, read_composition
from perfusion_registry.compose.concept import stored_artifacts
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compose import ComposingSession, LoadedComposition, PromptOptions
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.foresight import warn_before_drawing
from perfusion_registry.operations.loaded_base import load_base
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.render.request import RenderRequest, negative_format, read_negative, resolve_request
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import ProjectFolder

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseDescription, BaseIdentity
    from perfusion_registry.render.metadata import RenderRecord
    from perfusion_registry.render.start import StartImage


@dataclass(frozen=True, kw_only=True)
class RenderOverrides:
    """The fields of a request that are said; None leaves one to the base's card, or to the picture drawn
    again. image, mask, strength: files to draw from, and how much is drawn anew.
    """

    seeds: tuple[int, ...] | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None
    batch: int | None = None
    upscale: bool | None = None
    image: Path | None = None
    mask: Path | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        """Raise PerfError for a value out of range, for a negative prompt that calls a concept, and for a
        mask or a strength without an image."""
        if self.image is None:
            for option, value in (("--mask", self.mask), ("--strength", self.strength)):
                if value is not None:
                    raise PerfError(
                        f"{option} goes with an image", where=f"{option} {value}", hint="add --image FILE"
                    )
        if self.strength is not None and not 0 < self.strength <= 1:
            raise PerfError(
                "a strength is more than 0 and at most 1",
                where=f"--strength {self.strength:g}",
                hint="0.3 changes a little, 0.8 much",
            )
        read_negative(self.negative_prompt or "")
        resolve_request(self.values, {}, native={"width": 64, "height": 64})

    @property
    def values(self) -> dict[str, Any]:
        """What is said, by field."""
        start = ("image", "mask", "strength")
        said = {key: value for key, value in vars(self).items() if value is not None and key not in start}
        if self.negative_prompt is not None:
            said["negative_format"] = negative_format(self.negative_prompt)
        return said

    def start(self) -> StartImage | None:
        """The picture to draw from, read; None where none is said. Raises PerfError for what is none."""
        if self.image is None:
            return None
        from perfusion_registry.render.start import StartImage

        return StartImage.read(self.image, self.mask, self.strength)

    @property
    def sized(self) -> bool:
        """Whether a size is said."""
        return self.width is not None or self.height is not None


@dataclass(frozen=True, kw_only=True)
class CompositionSource:
    """A composition to draw, or the file of one. gates: said of its concepts instead of what it says."""

    composition: Composition | Path
    gates: SettingSources = field(default_factory=SettingSources)
    compute: ComputeOptions = field(default_factory=ComputeOptions)


@dataclass(frozen=True, kw_only=True)
class PictureSource:
    """A picture to draw again. gates: as in `CompositionSource`.

    Device and number formats are those of the picture unless `compute` names others.
    """

    picture: Path
    gates: SettingSources = field(default_factory=SettingSources)
    compute: ComputeOptions = field(default_factory=ComputeOptions)


Source = PromptOptions | CompositionSource | PictureSource


@dataclass(frozen=True)
class RenderJob:
    """What to draw. index: the one picture of the request that is wanted; None for all of them. start: what
    it is drawn from."""

    loaded: LoadedComposition
    request: RenderRequest
    index: int | None = None
    start: StartImage | None = None


def load_job(
    workspace: Workspace, source: Source, overrides: RenderOverrides, loaded: Base | None = None
) -> RenderJob:
    """Load what is needed to draw; only a prompt needs a project, for the others name all by digest.

    loaded: as in `load_base`; not for a picture, which has its own device and number formats.
    """
    if isinstance(source, CompositionSource):
        job = _of_composition(workspace, source, overrides, loaded)
    elif isinstance(source, PictureSource):
        job = _of_picture(workspace, source, overrides)
    else:
        session = ComposingSession(workspace, source, loaded)
        read = session.read(source)
        if overrides.upscale:
            find_upscaler(session.description)
        start = overrides.start()
        ready = session.compose(read, workspace.reporter)
        job = RenderJob(ready, request_of(ready, overrides, start), start=start)
    from perfusion_registry.render.draw import check_request

    check_request(job.loaded.base, job.loaded.composition, job.request)
    warn_before_drawing(job.loaded, job.request, workspace.reporter, sized=overrides.sized)
    return job


def _of_composition(
    workspace: Workspace, source: CompositionSource, overrides: RenderOverrides, base: Base | None
) -> RenderJob:
    composition = source.composition
    if isinstance(composition, Path):
        composition = read_composition(composition)
    project = workspace.read_if_any()
    description: BaseIdentity
    if base is not None:
        description, load = base.description, lambda: base
    else:
        description = there = _base_for(workspace, project, composition.base)
        load = partial(load_base, workspace, there, source.compute)
    if description.digest != composition.base.digest:
        workspace.reporter.warn(
            f"the composition was made for {composition.base.repo}; "
            f"it is drawn with {description.repo}, of the same family"
        )
    if overrides.upscale:
        find_upscaler(description)
    start = overrides.start()
    loaded = _loaded(workspace, project, composition, source.gates, load)
    return RenderJob(loaded, request_of(loaded, overrides, start), start=start)


def _of_picture(workspace: Workspace, source: PictureSource, overrides: RenderOverrides) -> RenderJob:
    from perfusion_registry.render.metadata import read_metadata

    record = read_metadata(source.picture)
    project = workspace.read_if_any()
    description = _base_for(workspace, project, record.composition.base)
    if description.digest != record.composition.base.digest:
        raise PerfError(
            f"the picture was drawn with another base, {record.composition.base.repo} "
            f"({record.composition.base.digest[:12]})",
            where=str(source.picture),
            hint=f"the base here is {description.repo} ({description.digest[:12]})",
        )
    if overrides.upscale or record.upscaler is not None:
        found = find_upscaler(description).digest
        if record.upscaler not in (None, found):
            raise PerfError(
                f"the picture was enlarged by another upscaler ({(record.upscaler or '')[:12]})",
                where=str(source.picture),
                hint=f"the one here is {found[:12]}",
            )
    start = overrides.start()
    if start is None and record.request.start is not None:
        raise PerfError(
            "the picture was drawn from another, which it does not carry",
            where=str(source.picture),
            hint="give it with --image FILE" + (" and --mask FILE" if record.request.start.mask else ""),
        )
    device, dtype = source.compute.device, source.compute.dtype
    compute = ComputeOptions(
        record.device if device == "auto" else device, record.dtype if dtype == "auto" else dtype
    )
    compute_dtype = record.compute_dtype if dtype == "auto" else "auto"
    load = partial(load_base, workspace, description, compute, compute_dtype)
    loaded = _loaded(workspace, project, record.composition, source.gates, load)

    from perfusion_registry.render.draw import native_values, planned

    request = record.request
    if start is not None and overrides.strength is None and request.start is not None:
        start = start.of_strength(request.start.strength)
    same = request.start == (start.said if start else None)
    if overrides.values or not same:
        alone = {"seeds": (record.seed,), "batch": 1, "start": start.said if start else None}
        values = {**record.request.model_dump(), **alone, **overrides.values}
        if not same:
            what = "another image, mask or strength" if request.start else "an image to draw from"
            workspace.reporter.note(f"it is another picture than {source.picture}: {what} is given")
        again_of = resolve_request(values, {}, native=native_values(loaded.base))
        return RenderJob(loaded, again_of, start=start)
    again = planned(loaded.base, loaded.composition, request)[record.index]
    _warn_of_versions(record, again, workspace.reporter)
    return RenderJob(loaded, request, record.index, start)


def _loaded(
    workspace: Workspace,
    project: ProjectFolder | None,
    composition: Composition,
    gates: SettingSources,
    load: Callable[[], Base],
) -> LoadedComposition:
    """Make a composition from a file ready to draw; its artifacts come from the store, before the base is
    loaded."""
    composition = regated(composition, gates)
    artifacts = stored_artifacts(composition, workspace.store)
    return LoadedComposition(project, load(), composition, artifacts)


def _base_for(workspace: Workspace, project: ProjectFolder | None, wanted: ComposedBase) -> BaseDescription:
    """The very base that is wanted, if it is at hand; else the project's own, else what has its name."""
    from perfusion_registry.base import as_drawn

    root = project.root if project else None
    named = wanted.repo if wanted.revision is None else f"{wanted.repo}@{wanted.revision}"
    places = [partial(workspace.base, project)] if project else []
    places += [partial(workspace.base_named, named, root), partial(workspace.base_as_it_is, named, root)]
    bases: list[BaseDescription] = []
    problems: list[PerfError] = []
    for place in places:
        try:
            bases.append(as_drawn(place(), wanted.digest))
        except PerfError as error:
            problems.append(error)
            continue
        if bases[-1].digest == wanted.digest:
            return bases[-1]
    if not bases:
        raise problems[0]
    return next((base for base in bases if base.family == wanted.family), bases[0])


def request_of(
    loaded: LoadedComposition, overrides: RenderOverrides, start: StartImage | None = None
) -> RenderRequest:
    """The request, with what nobody says as the base has it; a start decides the proportions."""
    from perfusion_registry.render.draw import native_values

    base, values = loaded.base, overrides.values
    if start is not None:
        values["start"] = start.said
        if not overrides.sized:
            values["width"], values["height"] = start.size(base)
    return resolve_request(values, base.description.card.render, native=native_values(base))


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
