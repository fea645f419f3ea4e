"""The subjects of a comparison: a folder of folders of pictures, each with the word that it is a kind of.

subjects/
  prompts_and_classes.txt     lines `backpack_dog,backpack`, as DreamBooth's data set has it; or
  backpack_dog/
    supercategory.txt         the word alone, which goes before that list
    00.jpg 01.jpg ...         three to eight pictures
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.errors import PerfError

WORD, LIST = "supercategory.txt", "prompts_and_classes.txt"
_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass(frozen=True)
class Subject:
    """name: as prompts call it. word: its supercategory. pictures: by their names, in `folder`."""

    name: str
    word: str
    folder: Path
    pictures: tuple[Path, ...]


def read_subjects(folder: Path) -> list[Subject]:
    """All subjects of a folder, by name. Raises PerfError that names every one without a word or pictures."""
    if not folder.is_dir():
        raise PerfError("there is no folder of subjects", where=str(folder))
    words = _listed(folder / LIST)
    subjects, mistakes = [], []
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        own = place / WORD
        word = own.read_text("utf-8").strip() if own.exists() else words.get(place.name)
        pictures = tuple(sorted(path for path in place.iterdir() if path.suffix.lower() in _PICTURES))
        name = re.sub(r"[^a-z0-9-]+", "-", place.name.lower()).strip("-")
        if not word:
            mistakes.append(f"{place.name} has no {WORD}, and {LIST} does not list it")
        elif not pictures:
            mistakes.append(f"{place.name} has no pictures")
        else:
            subjects.append(Subject(name, word, place, pictures))
    if mistakes or not subjects:
        said = "; ".join(mistakes) or "it has no folders of pictures"
        hint = f"write the word that each is a kind of into its {WORD}: a cat is `cat`"
        raise PerfError(f"the subjects cannot be used: {said}", where=str(folder), hint=hint)
    return subjects


def _listed(path: Path) -> dict[str, str]:
    """The classes of DreamBooth's list: all lines of two cells but its head, up to the prompts."""
    if not path.exists():
        return {}
    found = {}
    for line in path.read_text("utf-8").splitlines():
        name, comma, word = line.partition(",")
        if comma and re.fullmatch(r"[\w-]+", name.strip()) and name.strip() != "subject_name":
            found[name.strip()] = word.strip()
    return found
