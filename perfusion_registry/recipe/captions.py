"""Captions beside a recipe's pictures, `01.txt` beside `01.png`, and folders named as kohya's scripts have
them, `10_ohwx cat`: ten times in each round, and words for the pictures that have no caption.

Those that train on captions read them (`Method.reads_captions`); patterns of pictures are `recipe.pictures`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from perfusion_registry.amounts import count
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.patterns import names_in, one_form

ENDS = (".txt", ".caption")
"""How names of captions end: the first that is there is read."""
LARGEST_CAPTION = 64 * 1024
_FOLDER = re.compile(r"(?P<repeats>[1-9]\d{0,2})_(?P<words>\S.*)")


@dataclass(frozen=True)
class Caption:
    """What files say of a picture. text: of the file beside it; None where there is none. words: of its
    folder's name, likewise. repeats: how often it is shown in the time that others are shown once. file: the
    caption's or the folder's name, for whoever is told of it."""

    text: str | None = None
    words: str | None = None
    repeats: int = 1
    file: str = field(default="", compare=False)

    @property
    def says_something(self) -> bool:
        """Whether it is more than a picture alone."""
        return self.text is not None or self.words is not None

    def key(self) -> list[str | int | None]:
        """What a build depends on: the words of a folder only where no caption is beside the picture."""
        return [self.text, self.words if self.text is None else None, self.repeats]


NOTHING_SAID = Caption()


def is_numbered(folder: str) -> bool:
    """Whether a folder's name is a number and words."""
    return _FOLDER.fullmatch(folder) is not None


def caption_of(picture: Path) -> Caption:
    """What is said of a picture. Raises PerfError for a caption that cannot be read as text."""
    named = _FOLDER.fullmatch(picture.parent.name)
    words, repeats = (named["words"].strip(), int(named["repeats"])) if named else (None, 1)
    beside = caption_file(picture)
    if beside is None:
        return Caption(None, words, repeats, picture.parent.name if named else "")
    return Caption(_text(beside), words, repeats, beside.name)


def not_read(pictures: Iterable[Path]) -> str | None:
    """The sentence for a method that reads nothing of this, where anything is said of the pictures; None
    where nothing is."""
    pictures = list(pictures)
    beside = {caption_file(picture) for picture in pictures} - {None}
    said = [f"{count(len(beside), 'caption file')} beside the pictures"] if beside else []
    said += [f"the folder's name `{name}`" for name in numbered(pictures)]
    if not said:
        return None
    return (
        f"not read: {' and '.join(said)}; a concept is learned under templates (`templates` under [train]), "
        "and not under captions, so that its word alone comes to mean it"
    )


def numbered(pictures: Iterable[Path]) -> list[str]:
    """The names of the folders of pictures that are numbers and words."""
    return sorted({picture.parent.name for picture in pictures if is_numbered(picture.parent.name)})


def caption_file(picture: Path) -> Path | None:
    """The caption beside a picture, None where there is none."""
    stem = one_form(picture.stem)
    found = [picture.parent / name for name in names_in(picture.parent) if one_form(Path(name).stem) == stem]
    for end in ENDS:
        for path in found:
            if path.suffix.lower() == end and path.is_file():
                return path
    return None


def _text(path: Path) -> str | None:
    """The first line that says something, as kohya's scripts read it; None of a file that says nothing."""
    try:
        if path.stat().st_size > LARGEST_CAPTION:
            raise PerfError("this is too long for a caption", where=str(path), hint="move it elsewhere")
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise PerfError(
            f"the caption cannot be read: {error.strerror or error}", where=str(path), hint="let it be read"
        ) from error
    except UnicodeDecodeError as error:
        raise PerfError("the caption is not in UTF-8", where=str(path), hint="save it as UTF-8") from error
    return next((" ".join(line.split()) for line in lines if line.strip()), None)
