"""Files of masks: what they are called, and when they have a say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_MASK_STEM = re.compile(r"(?P<stem>.+)[._-]mask\Z", re.IGNORECASE)
_MASK_ONLY = re.compile(r".+\.mask\Z", re.IGNORECASE)


def reads_mask_files(source: str) -> bool:
    """Whether a recipe's `mask` lets the files beside the images decide, which then belong to the build's
    key."""
    return source in ("auto", "files")


def mask_source(said: str | None, usual: str, given: Sequence[bool]) -> str:
    """Where the masks of a concept come from: what its recipe says; where it says nothing, from the files
    that a person gave if every image has one, and else from where they usually do.

    said: the recipe's `mask`. usual: the base's or the method's. given: whether each image has a file.
    """
    if said is not None or reads_mask_files(usual):
        return usual if said is None else said
    return "files" if given and all(given) else usual


def masked_stem(path: Path) -> str | None:
    """The stem of the image whose mask a file is, if that image is beside it: `1` of `1.mask.png`,
    `1_mask.png` and `1-mask.png`; None of all other names."""
    named = _MASK_STEM.match(path.stem)
    return named["stem"] if named else None


def is_mask_alone(path: Path) -> bool:
    """Whether a file is a mask even where no image is beside it: `1.mask.png`, but not `wolf_mask.png`."""
    return _MASK_ONLY.match(path.stem) is not None
