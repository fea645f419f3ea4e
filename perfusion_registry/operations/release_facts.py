"""What belongs to a release beside its bytes: licence, authors, description, consent and a preview picture.

They stand in the recipe, whoever wrote them there: a person, or `publish`, which asks once.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.extras import require
from perfusion_registry.methods.files import parse_recipe_or_pack
from perfusion_registry.operations.building import build_plan
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.lock import relock
from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import Pack, Recipe, write_lockfile
from perfusion_registry.recipe.document import read_text
from perfusion_registry.recipe.editing import set_keys
from perfusion_registry.recipe.pack import PackSection
from perfusion_registry.recipe.recipe import ConceptSection
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.resolve import ProjectFolder, lock

PREVIEW_SIDE = 256
"""Pixels of the longer side of a preview."""
LARGEST_SIDE = 4096
"""Pixels of a preview that is saved, whoever made it."""
REQUIRED = ("licence", "authors")
"""What no registry takes a release without."""
QUESTIONS = {
    "licence": "Licence, such as CC-BY-4.0",
    "authors": "Author, as You <you@example.org>",
    "description": "What it shows, in a sentence",
    "consent": "Who agreed, where a person or a private thing is shown",
    "preview": "A picture that shows it to others, a file",
}
"""What a person is asked for, by key."""
EXAMPLES = {"licence": 'licence = "CC-BY-4.0"', "authors": 'authors = ["You <you@example.org>"]'}


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts:
    """What is said of a release; None, or nothing, leaves what the recipe has.

    consent: who agreed to be shown, where a person or a private thing is; a scene pack has none. preview: a
    picture, as seen from the working directory.
    """

    licence: str | None = None
    authors: tuple[str, ...] = ()
    description: str | None = None
    consent: str | None = None
    preview: Path | None = None

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> ReleaseFacts:
        """What a person answers, by field: one author, and the file of a preview."""
        values: dict[str, Any] = dict(texts)
        if "authors" in values:
            values["authors"] = (values["authors"],)
        if "preview" in values:
            values["preview"] = Path(values["preview"])
        return cls(**values)

    def keys(self, folder: Path) -> dict[str, str | list[str]]:
        """What is said, as keys of a recipe in this folder."""
        keys: dict[str, str | list[str] | None] = {
            "licence": self.licence,
            "authors": list(self.authors) or None,
            "description": self.description,
            "consent": self.consent,
            "preview": Path(os.path.relpath(self.preview, folder)).as_posix() if self.preview else None,
        }
        return {key: value for key, value in keys.items() if value is not None}

    def over(self, other: ReleaseFacts) -> ReleaseFacts:
        """These, and of `other` what these leave open."""
        own = {field.name: value for field in fields(self) if (value := getattr(self, field.name))}
        return replace(other, **own)


_KEYS = tuple(field.name for field in fields(ReleaseFacts))


def unsaid_facts(project: ProjectFolder, name: str) -> tuple[str, ...]:
    """The keys of what may be said of the concept or scene pack, and its recipe does not say."""
    about = _about(project.declared(name))
    return tuple(key for key in _KEYS if hasattr(about, key) and not getattr(about, key))


def says_more(project: ProjectFolder, name: str, facts: ReleaseFacts) -> bool:
    """Whether the recipe of the concept or scene pack does not say all of this already."""
    about, said = _about(project.declared(name)), facts.keys(project.recipe_path(name).parent)
    return any(_plain(getattr(about, key, None)) != value for key, value in said.items())


def _about(declared: Recipe | Pack) -> PackSection | ConceptSection:
    return declared.pack if isinstance(declared, Pack) else declared.concept


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class FactsEdit:
    """What is said of a release, in the recipe at `path`. name: of the concept or scene pack. before, after:
    the recipe's text."""

    name: str
    path: Path
    is_pack: bool
    before: str
    after: str


def edit_facts(project: ProjectFolder, name: str, facts: ReleaseFacts) -> FactsEdit:
    """Say something in the recipe of a concept or scene pack, and write nothing yet.

    Raises PerfError where the recipe would not be one, would still lack what no registry does without, or
    its preview is no picture.
    """
    path, is_pack = project.recipe_path(name), project.is_pack(name)
    table, keys = "pack" if is_pack else "concept", facts.keys(path.parent)
    if is_pack and "consent" in keys:
        what = f"`{name}` is a scene pack, which shows nobody"
        raise PerfError(what, where="--consent", hint="leave it out")
    if facts.preview is not None:
        preview_bytes(facts.preview)
    before = read_text(path, "recipe")
    text = set_keys(before, table, keys, str(path))
    about = _about(parse_recipe_or_pack(text, where=str(path)))
    if missing := [key for key in REQUIRED if not getattr(about, key)]:
        raise _refuse_missing(name, f"{path}, {table}", missing)
    if facts.preview is None:
        preview_of_recipe(path, about.preview)
    return FactsEdit(name, path, is_pack, before, text)


def write_facts(workspace: Workspace, edit: FactsEdit) -> None:
    """Write what is said into the recipe; what is built and locked follows.

    Only the card of an artifact changes, so nothing is trained. Raises PerfError, with nothing written, where
    that card cannot be written here.
    """
    if edit.after == edit.before:
        return
    current = edit.is_pack or not load_plan(workspace, [edit.name]).plan.needed
    if current and not edit.is_pack:
        require("torch", "to write what is said into an artifact that is built already", str(edit.path))
    replace_text(edit.path, edit.after, as_it_was=True)
    if edit.is_pack:
        locking = relock(workspace)
        if locking.changes:
            write_lockfile(locking.plan.project.lockfile_path, locking.after)
    elif current:
        planned = load_plan(workspace, [edit.name])
        if not planned.plan.needed:  # another project with this store has said the same of the same pictures
            after = lock(planned.project, planned.plan, planned.store)
            write_lockfile(planned.project.lockfile_path, after)
        elif all(task.reusable for task in planned.plan.needed):
            build_plan(planned, ComputeOptions(), locked=False, reporter=workspace.reporter)


def preview_of_recipe(path: Path, preview: str | None) -> bytes | None:
    """The bytes of the preview that the recipe at `path` names; None where it names none."""
    return None if preview is None else preview_bytes(path.parent / preview, where=f"{path}, preview")


def preview_bytes(picture: Path, *, where: str | None = None) -> bytes:
    """A picture as a preview: at most 256 pixels wide and high, as JPEG, with nothing beside its pixels.

    Raises PerfError where it is no picture that can be read.
    """
    from perfusion_registry.build.images import load_image

    image = load_image(picture, where).pixels
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    image = image.convert("RGB")
    image.info.clear()  # a comment in it would be written along
    file = BytesIO()
    image.save(file, "JPEG", quality=85)
    return file.getvalue()


def check_preview(data: bytes, name: str) -> None:
    """Raise PerfError unless these bytes, which anybody may have published, are a JPEG that can be read."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=("JPEG",)) as image:
                if max(image.size) > LARGEST_SIDE:
                    raise ValueError(f"{image.width} x {image.height} pixels are no small picture")
                image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning) as error:
        raise PerfError(
            f"the preview of `{name}` is no JPEG that can be read: {error}",
            hint="nothing was written; tell whoever published it",
        ) from error


def _refuse_missing(name: str, where: str, missing: Sequence[str]) -> PerfError:
    """The error for a release that lacks what no registry takes it without."""
    options = {"licence": "--licence CC-BY-4.0", "authors": '--author "You <you@example.org>"'}
    return PerfError(
        f"`{name}` cannot be published without {' and '.join(missing)}",
        where=where,
        hint=f"`perf publish {name} {' '.join(options[key] for key in missing)}` writes "
        f"{' and '.join(EXAMPLES[key] for key in missing)} there; nothing is trained for that",
    )
