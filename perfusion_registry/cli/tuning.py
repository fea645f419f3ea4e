"""Carrying out `perf tune`: from the options to the search, and its result into a scene and onto a sheet."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.cli.drawing import title_of
from perfusion_registry.cli.given import Wanted
from perfusion_registry.cli.work import Work
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.prompt import Call, Gate, Prompt, parse_prompt, unparse
from perfusion_registry.recipe import Manifest
from perfusion_registry.recipe.document import parse_toml, read_text, validate
from perfusion_registry.recipe.editing import set_scene
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.render.draw import planned
from perfusion_registry.render.metadata import sheet_bytes
from perfusion_registry.render.output import check_sheet, write_picture
from perfusion_registry.render.references import references
from perfusion_registry.render.sheet import contact_sheet, side_by_side
from perfusion_registry.render.tuning import Settings, Space, Tuned, configured, own_pictures, tune
from perfusion_registry.reporter import Reporter
from perfusion_registry.resolve import Project


@dataclass(frozen=True)
class Done:
    """What came of it. written: whether the manifest changed; told: what to tell of that."""

    composition: Composition
    tuned: Tuned
    written: bool
    told: str


def carry_out(
    work: Work,
    wanted: Wanted,
    reporter: Reporter,
    *,
    sheet: Path | None,
    files: Sequence[Path],
    force: bool,
    dry_run: bool,
) -> Done:
    """Tune, write the scene unless `dry_run`, and lay out the sheet.

    files: the artifacts that stand in for what is locked.
    """
    found = work.ready
    assert found.project is not None  # `to_tune` found one
    composition, request = found.composition, work.request
    if sheet is not None:
        check_sheet(sheet, planned(found.base, composition, request), force=force)
    space = Space(wanted.biases, wanted.temperatures, wanted.locks, wanted.residuals)
    own = own_pictures(composition, found.project, (request.height, request.width))
    tuned = tune(
        found.base,
        composition,
        found.artifacts,
        request,
        own,
        space,
        images=wanted.images,
        reporter=reporter,
    )
    after = configured(composition, tuned.after.settings)
    if sheet is not None:
        tiles = side_by_side(tuned.pictures, ("before", "after"), request.seeds)
        note = f"before: {_said(tuned.before.settings)} · after: {_said(tuned.after.settings)}"
        laid = contact_sheet(
            title_of(composition),
            references(composition, found.project, reporter=reporter),
            tiles,
            note=note,
        )
        write_picture(sheet, sheet_bytes(laid, planned(found.base, after, request)))
    written = False
    if wanted.scene is not None and not dry_run:
        written = _write(found.project, wanted.scene, after)
    return Done(composition, tuned, written, _tell(wanted, after, tuned, files, written=written))


def _write(project: Project, scene: str, after: Composition) -> bool:
    """Write the gates into the scene, residuals too: it was with their strengths that the rest was chosen.
    Returns whether that changed it."""
    path = project.manifest_path
    where = str(path)
    chosen: dict[str, dict[str, float | str]] = {}
    for concept in after.concepts:
        chosen[concept.name] = {
            "bias": concept.bias,
            "temperature": concept.temperature,
            "key_lock": concept.key_lock,
        }
        if concept.residual is not None:
            chosen[concept.name]["residual"] = concept.residual
    text = set_scene(read_text(path, "manifest"), scene, after.prompt, chosen, where)
    validate(parse_toml(text, where, "manifest"), Manifest, text=text, where=where, kind="manifest")
    return replace_text(path, text)


def _tell(wanted: Wanted, after: Composition, tuned: Tuned, files: Sequence[Path], *, written: bool) -> str:
    """The last lines for a person: what the choice is and where it is."""
    if tuned.after.settings == tuned.before.settings:
        said = "Nothing that was tried is better than the gates as they are"
    else:
        gain = tuned.after.scores.harmonic - tuned.before.scores.harmonic
        said = f"The best is {gain:.3f} better than the gates as they were: {_spelt(after)}"
    if written:
        given = [part for file in files for part in ("--with", str(file))]
        again = shlex.join(["perf", "render", "--scene", str(wanted.scene), *given])
        return f"{said}\nWrote scene {wanted.scene} to perfusion.toml; next: {again}"
    if wanted.scene is None:
        return f"{said}\nTo keep it, name a scene: --scene NAME"
    return said


def _spelt(after: Composition) -> str:
    """The prompt with the gates in its braces."""
    gates = {c.name: Gate(c.bias, c.temperature, c.key_lock, c.residual) for c in after.concepts}
    told: set[str] = set()
    pieces = []
    for piece in parse_prompt(after.prompt).pieces:
        if isinstance(piece, Call) and piece.name not in told:
            told.add(piece.name)
            piece = Call(piece.name, gates[piece.name])
        pieces.append(piece)
    return unparse(Prompt(tuple(pieces)))


def _said(settings: Settings) -> str:
    return "; ".join(
        f"bias {one.bias:g}, temperature {one.temperature:g}, {one.key_lock}"
        + ("" if one.residual is None else f", residual {one.residual:g}")
        for one in settings
    )
