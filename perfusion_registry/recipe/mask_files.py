"""Files of masks: what they are called, and when they have a say."""

from __future__ import annotations

import re
from pathlib import Path

_MASK_STEM = re.compile(r"(?P<stem>.+)[._-]mask\Z", re.IGNORECASE)
_MASK_ONLY = re.compile(r".+\.mask\Z", re.IGNORECASE)


def reads_mask_files(source: str) -> bool:
    """Whether a recipe's `mask` lets the files beside the images decide, which then belong to the build's
    key."""
    return source in ("auto", "files")


def masked_stem(path: Path) -> str | None:
    """The stem of the image whose mask a file is, if that image is beside it: `1` of `1.mask.png`,
    `1_mask.png` and `1-mask.png`; None of all other names."""
    named = _MASK_STEM.match(path.stem)
    return named["stem"] if named else None


def is_mask_alone(path: Path) -> bool:
    """Whether a file is a mask even where no image is beside it: `1.mask.png`, but not `wolf_mask.png`."""
    return _MASK_ONLY.match(path.stem) is not None
