"""What to draw, and by which base: a prompt, a composition or what made a picture, checked before torch is
imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.base.embedded import AnotherEdition, another_edition
from perfusion_registry.base.reference import EMBEDDED
from perfusion_registry.base.upscaler import find_upscaler
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import described, regated
from perfusion_registry.compose.composition import ComposedBase, Composition, read_composition
from perfusion_registry.compose.concept import stored_artifacts
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compose import ComposingSession, LoadedComposition, PromptOptions
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.foresight import warn_before_drawing
from perfusion_registry.operations.given import Given
from perfusion_registry.operations.loaded_base import load_base
from perfusion_registry.operations.overrides import RenderOverrides as RenderOverrides
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.render.request import RenderRequest, resolve_request
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import ProjectFolder

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseDescription, BaseIdentity
    from perfusion_registry.render.draw import Rendered
    from perfusion_registry.render.metadata import RenderRecord


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
    """What to draw. index: the one picture of the request that is wanted; None for all of them. given: the
    pictures that it is drawn from."""

    loaded: LoadedComposition
    request: RenderRequest
    index: int | None = None
    given: Given = field(default_factory=Given)

    def draw(self, reporter: Reporter) -> Iterator[Rendered]:
        """Draw the pictures of its request, each when it is asked for."""
        from perfusion_registry.render.draw import render

        ready, given = self.loaded, self.given
        return render(
            *(ready.base, ready.composition, self.request, ready.artifacts),
            start=given.start,
            controls=given.controls,
            reporter=reporter,
        )


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
        given = overrides.given(session.description)
        overrides.check(session.description, given)
        ready = session.compose(read, workspace.reporter)
        job = RenderJob(ready, request_of(ready, overrides, given), given=given)
    from perfusion_registry.render.draw import check_request

    check_request(job.loaded.base, job.loaded.composition, job.request)
    warn_before_drawing(job.loaded, job.request, workspace.reporter, sized=overrides.sized)
    if not (overrides.sized or isinstance(source, PictureSource)):
        tell_size(job, workspace.reporter)
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
        meant = description.digest == composition.base.digest
    else:
        there = _base_for(workspace, project, composition.base, controlled=bool(overrides.controls))
        description, load = there, partial(load_base, workspace, there, source.compute)
        meant = _is(there, composition.base)
    if not meant:
        edition = _edition(composition.base, description)
        made = edition.wanted if edition else composition.base.repo
        drawn = edition.installed.told if edition else description.repo
        workspace.reporter.warn(
            f"the composition was made for {made}; it is drawn with {drawn}, of the same family"
        )
    given = overrides.given(description)
    overrides.check(description, given)
    loaded = _loaded(workspace, project, composition, source.gates, load)
    return RenderJob(loaded, request_of(loaded, overrides, given), given=given)


def _of_picture(workspace: Workspace, source: PictureSource, overrides: RenderOverrides) -> RenderJob:
    from perfusion_registry.render.metadata import read_metadata

    record = read_metadata(source.picture)
    project = workspace.read_if_any()
    wanted = record.composition.base
    description = _base_for(workspace, project, wanted, controlled=bool(overrides.controls))
    if not _is(description, wanted):
        edition = _edition(wanted, description)
        if edition is not None:
            what = f"the picture was drawn with {edition.wanted}, and {edition.here}"
            raise PerfError(what, where=str(source.picture), hint=edition.hint)
        raise PerfError(
            f"the picture was drawn with another base, {wanted.repo} ({wanted.digest[:12]})",
            where=str(source.picture),
            hint=f"the base here is {description.repo} ({description.digest[:12]})",
        )
    if record.upscaler is not None:
        found = find_upscaler(description).digest
        if record.upscaler != found:
            raise PerfError(
                f"the picture was enlarged by another upscaler ({record.upscaler[:12]})",
                where=str(source.picture),
                hint=f"the one here is {found[:12]}",
            )
    request = record.request
    given = overrides.given(description)
    lacking = given.lacking(request)
    if lacking:
        raise PerfError(
            "the picture was drawn from others, which it does not carry",
            where=str(source.picture),
            hint=f"give it with {' and '.join(lacking)}",
        )
    given = overrides.with_strengths_of(request, given)
    overrides.check(description, given, request)
    device, dtype = source.compute.device, source.compute.dtype
    compute = ComputeOptions(
        record.device if device == "auto" else device,
        record.dtype if dtype == "auto" else dtype,
        offload=source.compute.offload or (record.offload if device == "auto" else None),
    )
    compute_dtype = record.compute_dtype if dtype == "auto" else "auto"
    load = partial(load_base, workspace, description, compute, compute_dtype)
    loaded = _loaded(workspace, project, record.composition, source.gates, load)

    from perfusion_registry.render.draw import native_values, planned

    if overrides.values or not given.is_of(request):
        values = {
            **request.model_dump(),
            "seeds": (record.seed,),
            "batch": 1,
            **overrides.values_on(loaded.base),
            **given.said,
        }
        if not given.is_of(request):
            pictures = "images or strengths" if request.start or request.controls else "images to draw from"
            workspace.reporter.note(
                f"it is another picture than {source.picture}: other {pictures} are given"
            )
        again_of = resolve_request(values, {}, native=native_values(loaded.base))
        return RenderJob(loaded, again_of, given=given)
    again = planned(loaded.base, loaded.composition, request)[record.index]
    _warn_of_versions(record, again, workspace.reporter)
    return RenderJob(loaded, request, record.index, given)


def _loaded(
    workspace: Workspace,
    project: ProjectFolder | None,
    composition: Composition,
    gates: SettingSources,
    load: Callable[[], Base],
) -> LoadedComposition:
    """Make a composition of a file ready to draw; its artifacts are read before the base is loaded.

    Where another base of its family draws it, it is a composition of that one from here on.
    """
    composition = regated(composition, gates)
    artifacts = stored_artifacts(composition, workspace.store)
    base = load()
    here = described(base)
    if here.family == composition.base.family and here.digest != composition.base.digest:
        composition = composition.model_copy(update={"base": here})
    return LoadedComposition(project, base, composition, artifacts)


def _edition(wanted: ComposedBase, description: BaseIdentity) -> AnotherEdition | None:
    """The edition of Storybook that is wanted, where it is known and another is here."""
    embedded = wanted.repo == description.repo == EMBEDDED
    return another_edition(wanted.digest, known_only=True) if embedded else None


def _is(description: BaseDescription, wanted: ComposedBase) -> bool:
    """Whether a base is the one that is wanted, which may be from before it had its controls."""
    return wanted.digest in (description.digest, description.without_controls.digest)


def _base_for(
    workspace: Workspace, project: ProjectFolder | None, wanted: ComposedBase, *, controlled: bool
) -> BaseDescription:
    """The very base that is wanted, if it is at hand; else the project's own, else what has its name.

    controlled: with its controls, also where what is wanted is from before it had any.
    """
    from perfusion_registry.base import as_drawn

    root = project.root if project else None
    named = wanted.repo if wanted.revision is None else f"{wanted.repo}@{wanted.revision}"
    places = [partial(workspace.base, project)] if project else []
    places += [partial(workspace.base_named, named, root), partial(workspace.base_as_it_is, named, root)]
    bases: list[BaseDescription] = []
    problems: list[PerfError] = []
    for place in places:
        try:
            there = place()
            bases.append(as_drawn(there, wanted.digest))
        except PerfError as error:
            problems.append(error)
            continue
        if bases[-1].digest == wanted.digest:
            return there if controlled and bases[-1] == there.without_controls else bases[-1]
    if not bases:
        raise problems[0]
    return next((base for base in bases if base.family == wanted.family), bases[0])


def request_of(
    loaded: LoadedComposition, overrides: RenderOverrides, given: Given | None = None
) -> RenderRequest:
    """The request, with what nobody says as the base has it; pictures decide the proportions."""
    from perfusion_registry.render.draw import native_values

    base, values = loaded.base, overrides.values_on(loaded.base)
    if given is not None:
        values |= given.said
        if given.first is not None and not overrides.sized:
            values["width"], values["height"] = given.size(base)
    return resolve_request(values, base.description.card.render, native=native_values(base))


def tell_size(job: RenderJob, reporter: Reporter) -> None:
    """Say which size a picture decided."""
    first, request = job.given.first, job.request
    if first is not None:
        reporter.note(f"drawn at {request.width}x{request.height}, in the proportions of {first.path}")


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
