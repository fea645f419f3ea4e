"""What a base's own pictures are like in numbers, measured once and kept beside it in `perf-bounds.toml`.

The file changes neither what the base draws nor what is trained on it, so it is no part of the base's digest.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from perfusion_registry.base.card import read_beside

if TYPE_CHECKING:
    from perfusion_registry.base.identity import BaseIdentity

BOUNDS_FILE = "perf-bounds.toml"

_KEPT = "\N{NO-BREAK SPACE}"  # within a word of several words, until lines are broken
_Level = Annotated[float, Field(gt=0, lt=1)]


class PictureBounds(BaseModel):
    """How far pictures may be from what the base can draw.

    loss: the greatest mean square error of its denoiser's answer, of the mean of all pictures, in the
    denoiser's units; levels: the shares of the noise schedule at which it is asked. psnr: the least that its
    autoencoder gives back, in dB. drawn, photographs: what was measured, least to greatest, as the bounds
    were chosen.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Annotated[float, Field(gt=0)]
    psnr: float
    levels: tuple[_Level, ...]
    drawn: dict[str, tuple[float, float]] = {}
    photographs: dict[str, tuple[float, float]] = {}


class BaseBounds(BaseModel):
    """The optional `perf-bounds.toml` of a base folder.

    world: the drawn world that judges the base's pictures. things: the plain words of all that it draws;
    words: all that the captions say that it was trained on. None of either of a base that knows a language.
    pictures: None where nothing was measured. told: of the way from the plain word's pictures to a concept's
    own, the share that a concept goes which is told from its supercategory. shows: of a concept's own
    pictures, the share in which its supercategory is to be seen; shown: what was measured, of sets under
    their own word and under another, least to greatest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    world: str | None = None
    things: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    told: Annotated[float, Field(gt=0, lt=1)] = 0.25
    shows: Annotated[float, Field(gt=0, lt=1)] = 0.5
    shown: dict[str, tuple[float, float]] = {}
    pictures: PictureBounds | None = None

    @classmethod
    def read(cls, folder: Path) -> BaseBounds:
        """Those of a base's folder; none where it has no such file. Raises PerfError for a file with
        mistakes."""
        return read_beside(folder / BOUNDS_FILE, cls, "bounds file")

    @classmethod
    def of(cls, description: BaseIdentity) -> BaseBounds:
        """Those of a base; none of one that is not read from a folder."""
        folder: Path | None = getattr(description, "folder", None)
        return cls() if folder is None else cls.read(folder)


def words_text(world: str, things: Sequence[str], words: Sequence[str]) -> str:
    """The part of a bounds file that nothing is measured for, as `BaseBounds` has it."""
    return f'world = "{world}"\nthings = {_listed(things)}\nwords = {_listed(words)}\n'


def _listed(words: Sequence[str]) -> str:
    """A list in TOML, in lines of a width."""
    quoted = ", ".join(f'"{word}"'.replace(" ", _KEPT) for word in words)
    lines = textwrap.fill(
        quoted, 100, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
    )
    return "[\n" + lines.replace(_KEPT, " ") + ",\n]"
