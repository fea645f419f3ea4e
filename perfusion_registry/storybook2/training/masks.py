"""Masks at the sizes that networks see them in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def averaged_down(masks: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Area averages of masks (..., h, w) over squares of `factor`, rounded."""
    *rest, height, width = masks.shape
    cells = masks.reshape(*rest, height // factor, factor, width // factor, factor)
    mean: NDArray[np.float32] = cells.mean((-3, -1), dtype=np.float32)
    return np.rint(mean).astype(np.uint8)
