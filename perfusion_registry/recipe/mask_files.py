"""Files of masks: what they are called, and when they have a say."""

from __future__ import annotations

import re
from pathlib import Path

_MASK_STEM = re.compile(r"(?P<stem>.+)[._-]mask\Z", re.IGNORECASE)


def reads_mask_files(source: str) -> bool:
    """Whether a recipe's `mask` lets the files beside the images decide, which then belong to the build's
    key."""
    return source in ("auto", "files")


def is_mask(path: Path) -> bool:
    """Whether a file is, by its name, the mask of an image beside it: `1.mask.png`, `1_mask.png`."""
    return _MASK_STEM.match(path.stem) is not None


def image_stem(path: Path) -> str:
    """The stem of the image that a mask is for; a file that is called like none has its own."""
    named = _MASK_STEM.match(path.stem)
    return named["stem"] if named else path.stem


def mask_file(image: Path) -> Path | None:
    """The mask beside an image, if there is one; of several the first by name."""
    for path in sorted(image.parent.iterdir()):
        if is_mask(path) and image_stem(path).casefold() == image.stem.casefold() and path.is_file():
            return path
    return None
