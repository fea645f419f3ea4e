"""The matrix as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.matrix.cells import (
    ANSWER,
    BUILT,
    BUILT_LEVELS,
    COLUMNS,
    LEFT,
    LEVELS,
    ROUNDING,
    Cell,
)

Matrix = Mapping[str, Mapping[str, Cell]]
"""By the architecture's name and the column's."""

HEAD = f"""\
# Architectures, measured

`make matrix` writes this page. Of each architecture a tiny base in its true layout, with random weights, is
asked on the processor, in fp32, through perf; and once more through the stock pipeline of diffusers, edited
by hand: keys and values in fp64 by the paper's equations, put in with hooks
(`benchmarks/matrix/by_hand.py`). No cell is left out: what is refused says why, and what fails says so.

A number is the largest difference from the model that was edited by hand: of the denoiser's answer, whose
numbers are about 1, and of a picture, in levels of 255. What the edit itself changes stands behind it. A
cell is good where the answer is within {ANSWER:.0e} and the picture within {LEVELS}; where a
line below has bounds of its own, these hold.

- **recognise**: known by its files; a picture without concepts beside the stock pipeline's (0: the same to
  the bit), the unedited answer through packed encodings, and whether one file of it is of its folder's
  family.
- **covariance**: C beside the mean over what the stock pipeline encodes.
- **planted build**: a hidden embedding and hidden values make the denoiser's targets; what is left of the
  loss after an ordinary build, at noises it was not trained on (less than {LEFT:.0%}), and at how many
  places (tables of embeddings, and layers) the first step has a gradient that is not 0.
- **local lock**, **global lock**, **two concepts**, **residual**, **img2img**: as above, in packed form.
- **thin form**: two concepts, the worse answer of both locks, and a picture with residuals.
- **dtype**: how far the edited answer in half precision is from fp32, and how far the unedited model's own
  is (at most {ROUNDING:g} times as far).
- **fake CUDA**: covariance, a build and a picture in both forms where whatever CUDA refuses is refused,
  beside the processor's (each tensor of the build within {BUILT:.0%} of its largest number, a picture within
  {BUILT_LEVELS} levels).
- **full size**: the bytes of a concept without a residual on a base of full size, its whole file.
"""


def markdown(matrix: Matrix) -> str:
    """The page: a row for each column of the matrix, since there are more of them than architectures."""
    names = list(matrix)
    columns = [column for column in COLUMNS if any(column in cells for cells in matrix.values())]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for column in columns:
        shown = [said(matrix[name][column]) if column in matrix[name] else "not run" for name in names]
        lines.append(f"| **{column}** | {' | '.join(shown)} |")
    return f"{HEAD}\n" + "\n".join(lines) + "\n"


def said(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    return text if cell.good else f"**NOT GOOD** {text}"


def as_json(matrix: Matrix) -> dict[str, Any]:
    """Every number, in full."""
    return {
        name: {
            column: {"text": cell.text, "good": cell.good, "refused": cell.refused, **cell.numbers}
            for column, cell in cells.items()
        }
        for name, cells in matrix.items()
    }
