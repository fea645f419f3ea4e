"""`tune`: let pictures choose how a prompt's concepts are drawn, into a scene and onto a sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import GetJsonSchemaHandler, SerializeAsAny, TypeAdapter, field_serializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core.core_schema import CoreSchema

from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.prompt import Call, Prompt, options_of, unparse
from perfusion_registry.errors import PerfError, at
from perfusion_registry.methods.files import parse_manifest
from perfusion_registry.methods.settings import Value
from perfusion_registry.methods.table import (
    check_choices,
    find_method,
    read_choice,
    shipped_methods,
    shipped_settings,
)
from perfusion_registry.operations.compose import PromptOptions, require_call
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.job import RenderOverrides, load_job
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.editing import set_scene
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.render.formats import format_of
from perfusion_registry.render.output import check_formats, check_sheet, write_picture
from perfusion_registry.render.parameters import title_of
from perfusion_registry.render.search import check_room
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.project import not_found

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.render.tuning import Attempt


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """What to tune. scene: of the manifest, where the result goes; with no `prompt`, its own is tuned.

    choices: what may be chosen of a setting, by its field; else it is its method's ranges. images: pictures
    at most. files, locked, frozen: as in `PromptOptions`. dry_run: leave the manifest alone.
    """

    prompt: str | None = None
    scene: str | None = None
    choices: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    images: int = 72
    overrides: RenderOverrides = field(default_factory=RenderOverrides)
    files: tuple[Path, ...] = ()
    sheet: Path | None = None
    force: bool = False
    locked: bool = False
    frozen: bool = False
    dry_run: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)

    def __post_init__(self) -> None:
        """Raise PerfError where there is no prompt, a mistake in it, or a scene that is not the project's."""
        if self.scene is not None and "/" in self.scene:
            raise PerfError(
                f"{self.scene!r} belongs to a scene pack, which is not the project's to change",
                where="--scene",
                hint="name a scene of perfusion.toml, or a new one",
            )
        PromptOptions(prompt=self.prompt, scene=self.scene)
        check_room(self.images, len(self.overrides.seeds or (0,)))
        for field_, values in self.choices.items():
            check_choices(field_, values)


def read_choices(tries: Sequence[str], **options: str | None) -> dict[str, tuple[Value, ...]]:
    """What may be chosen of each setting, by its field: numbers in order, words as said, each once.

    tries: `KEY=V,V,...` each, of a setting of any method. options: values of the options of settings. Raises
    PerfError, whose place is the option.
    """
    chosen: dict[str, tuple[Value, ...]] = {}
    for option, text in options.items():
        if text:
            setting = shipped_settings()[option]
            with at(f"--{option} {text}"):
                chosen[setting.field] = setting.read_several(text)
    for text in tries:
        with at(f"--try {text}"):
            setting, values = read_choice(text)
            if setting.field in chosen:
                hint = f"say all its values once, such as --try {setting.key}=V,V"
                raise PerfError(f"what may be chosen of {setting.key} is said twice", hint=hint)
        chosen[setting.field] = values
    return chosen


class _Options:
    """In the JSON Schema, options as they apply: those of the methods that come with perf, and of others."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        known = {
            setting.field: TypeAdapter(setting.type).json_schema()
            for method in shipped_methods()
            for setting in method.settings
            if setting.field in method.draw_model.model_fields
        }
        return {"type": "object", "properties": known, "additionalProperties": {"type": ["number", "string"]}}


class TuneAttempt(FileModel):
    """What was tried on so many seeds. gates: each concept's options, of its method; those that it does not
    have are left out. alike: image similarity by concept; image: their mean.
    """

    gates: dict[Name, Annotated[SerializeAsAny[FileModel], _Options()]]
    seeds: int
    alike: dict[Name, float]
    image: float
    text: float
    harmonic: float

    @field_serializer("gates")
    def _without_none(self, gates: dict[str, FileModel]) -> dict[str, dict[str, Value]]:
        return {name: options.model_dump(exclude_none=True) for name, options in gates.items()}


class TuneResult(Result):
    """`perf tune`; before and after are on all seeds. drawn: how many pictures that took.

    written: whether the manifest changed. composition: with the gates that were chosen; spelt: its prompt
    with them in braces.
    """

    schema_: Literal["perf.tune/1"] = named("perf.tune/1")
    prompt: str
    scene: str | None
    written: bool
    drawn: int
    sheet: str | None
    before: TuneAttempt
    after: TuneAttempt
    tried: tuple[TuneAttempt, ...]
    composition: InProcess[Composition]
    spelt: InProcess[str]

    def in_words(self, attempt: TuneAttempt) -> list[str]:
        """What an attempt sets, concept by concept, as a person reads it."""
        methods = {concept.name: find_method(concept.method) for concept in self.composition.concepts}
        return [
            ", ".join(setting.shown(value) for setting, value in methods[name].shown_settings(options))
            for name, options in attempt.gates.items()
        ]


def tune(workspace: Workspace, options: TuneOptions, loaded: Base | None = None) -> TuneResult:
    """Search, write the scene unless it is a dry run, and lay out the sheet. loaded: as in `load_base`."""
    check_formats(None, options.sheet)
    prompt = _prompt(workspace, options)
    require_call(workspace, prompt, "tune")
    job = load_job(workspace, prompt, options.overrides, loaded)

    from perfusion_registry.render.draw import planned
    from perfusion_registry.render.metadata import sheet_bytes
    from perfusion_registry.render.references import references
    from perfusion_registry.render.sheet import contact_sheet, side_by_side
    from perfusion_registry.render.tuning import configured, own_pictures
    from perfusion_registry.render.tuning import tune as search

    ready, request, reporter = job.loaded, job.request, workspace.reporter
    assert ready.project is not None  # a prompt is composed in one
    composition, project = ready.composition, ready.project
    if options.sheet is not None:
        records = planned(ready.base, composition, request)
        check_sheet(options.sheet, records, force=options.force)
    tuned = search(
        ready.base,
        composition,
        ready.artifacts,
        request,
        own_pictures(composition, project, (request.height, request.width)),
        options.choices,
        images=options.images,
        reporter=reporter,
    )
    after = configured(composition, tuned.after.options)
    if options.sheet is not None:
        tiles = side_by_side(tuned.pictures, ("before", "after"), request.seeds)
        note = f"before: {_spoken(composition)} · after: {_spoken(after)}"
        beside = references([composition], project, reporter=reporter)
        sheet = contact_sheet(title_of(composition), beside, tiles, note=note)
        kind = format_of(options.sheet) or "png"
        write_picture(options.sheet, sheet_bytes(sheet, planned(ready.base, after, request), kind), "--sheet")
    written = False
    if options.scene is not None and not options.dry_run:
        written = _write(project, options.scene, after)
    names = [concept.name for concept in composition.concepts]
    return TuneResult(
        prompt=composition.prompt,
        scene=options.scene,
        written=written,
        drawn=tuned.drawn,
        sheet=str(options.sheet) if options.sheet else None,
        before=_row(names, tuned.before),
        after=_row(names, tuned.after),
        tried=tuple(_row(names, attempt) for attempt in tuned.attempts),
        composition=after,
        spelt=_spelt(after),
    )


def _prompt(workspace: Workspace, options: TuneOptions) -> PromptOptions:
    """What is to be tuned. A scene that is there already is where the search starts from."""
    scene = options.scene
    if scene is not None:
        if not workspace.manifest_path.is_file():  # a lockfile alone has no scenes to write
            raise not_found(workspace.root)
        if scene not in workspace.read().manifest.scenes:
            if options.prompt is None:
                raise PerfError(
                    f"there is no scene {scene!r} yet, so it has no prompt to tune",
                    where="--scene",
                    hint=f"perf tune 'a teddy* in the snow' --scene {scene}",
                )
            scene = None
    return PromptOptions(
        prompt=options.prompt,
        scene=scene,
        files=options.files,
        locked=options.locked,
        frozen=options.frozen,
        compute=options.compute,
    )


def _write(project: ProjectFolder, scene: str, after: Composition) -> bool:
    """Write all options into the scene: it was with those that were not tried that the rest was chosen.
    Returns whether that changed it."""
    path = project.manifest_path
    where = str(path)
    chosen: dict[str, dict[str, float | str]] = {}
    for concept in after.concepts:
        chosen[concept.name] = concept.render.model_dump(exclude_none=True)
    text = set_scene(read_text(path, "manifest"), scene, after.prompt, chosen, where)
    parse_manifest(text, where=where)
    return replace_text(path, text, as_it_was=True)


def _row(names: Sequence[str], attempt: Attempt) -> TuneAttempt:
    return TuneAttempt(
        gates=dict(zip(names, attempt.options, strict=True)),
        seeds=attempt.seeds,
        alike={name: round(value, 6) for name, value in attempt.alike.items()},
        image=round(attempt.scores.image, 6),
        text=round(attempt.scores.text, 6),
        harmonic=round(attempt.scores.harmonic, 6),
    )


def _spoken(composition: Composition) -> str:
    """How each concept is drawn."""
    return "; ".join(find_method(concept.method).summary(concept.render) for concept in composition.concepts)


def _spelt(after: Composition) -> str:
    """The prompt with the options in its braces."""
    spelt: set[str] = set()
    pieces = []
    prompt = after.parsed
    for piece in prompt.pieces:
        if isinstance(piece, Call) and piece.name not in spelt:
            spelt.add(piece.name)
            concept = after.concept(piece.name)
            shown = find_method(concept.method).shown_settings(concept.render)
            piece = Call(piece.name, options_of({setting.key: value for setting, value in shown}))
        pieces.append(piece)
    return unparse(Prompt(tuple(pieces), plain=prompt.plain))
