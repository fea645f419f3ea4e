"""The sheet of a verdict: a concept's own pictures, and a plain prompt and two places, drawn.

It calls the concept by its name, as prompts do. Others with the same tensors take it over under theirs, so it
says in its file where its pictures lie, and is laid out again from them (`renamed_sheet`): without torch.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from pydantic import ValidationError

from perfusion_registry.artifact.verdict import Verdict
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name
from perfusion_registry.render.formats import encoded, read_text
from perfusion_registry.render.sheet import Box, Reference, Tile, laid_out

SHOWN = 3
"""Prompts on the sheet: a plain one, and two places."""
CHUNK = "perf-verdict"
_QUALITY = 85  # of the JPEG
_LARGEST = 64 * 1024  # bytes of what it says of itself


class SheetRecord(FileModel):
    """What the file of a sheet says of it. name: of its concept. word: its supercategory. templates: its
    prompts, with `{}` for either. own, drawn: where the concept's own pictures lie, and those of its word and
    of the plain word, prompt by prompt: left, upper, right, lower."""

    name: Name
    word: str
    templates: tuple[str, ...]
    own: tuple[Box, ...]
    drawn: tuple[Box, ...]


@dataclass(frozen=True)
class VerdictSheet:
    """A sheet. name, word, templates: as in `SheetRecord`. said: the verdict in words. own: the concept's
    pictures; drawn: those that its word draws, then those of the plain word, one for each template."""

    name: str
    word: str
    templates: Sequence[str]
    said: str
    own: Sequence[Image.Image]
    drawn: Sequence[Image.Image]

    def to_bytes(self) -> bytes:
        """The sheet as a JPEG: its own pictures on the left; what its word draws, and the plain word below
        it, on the right. The same pictures and words give the same bytes."""
        called = f"{self.name}*"
        captions = [one.replace("{}", word) for word in (called, self.word) for one in self.templates]
        tiles = [Tile(image, caption) for image, caption in zip(self.drawn, captions, strict=True)]
        title = f"What {called} became, beside the plain word {self.word}"
        reference = Reference(called, "learned from these", self.own)
        sheet, places = laid_out(title, [reference], tiles, note=self.said)
        said = SheetRecord(
            name=self.name,
            word=self.word,
            templates=tuple(self.templates),
            own=places.references[0],
            drawn=places.tiles,
        )
        return encoded(sheet, "jpeg", CHUNK, said.model_dump_json(), quality=_QUALITY)


def read_sheet(path: Path) -> SheetRecord | None:
    """What a file says of itself; None where it is no sheet of a verdict, or an earlier perf's."""
    try:
        text = read_text(path, CHUNK, _LARGEST)
        return None if text is None else SheetRecord.model_validate_json(text)
    except (PerfError, ValidationError):
        return None


def renamed_sheet(path: Path, name: str, verdict: Verdict | None) -> bytes:
    """The sheet of a concept whose tensors were learned under another name, and its own verdict; as it is
    where it has that name, or does not say what lies where."""
    data, record = path.read_bytes(), read_sheet(path)
    if record is None or record.name == name:
        return data
    with Image.open(io.BytesIO(data)) as image:
        own, drawn = ([image.crop(box) for box in boxes] for boxes in (record.own, record.drawn))
    said = "" if verdict is None else verdict.in_words
    return VerdictSheet(name, record.word, record.templates, said, own, drawn).to_bytes()
