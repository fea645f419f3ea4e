"""How long builds took on this machine, so that the next can say beforehand what it will take.

    durations/<key>    seconds of the latest build of its kind

Nothing that is built depends on it, and what cannot be read or written is as good as not there.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.writing import make_folder, replace_bytes

_Seconds = Annotated[float, Field(ge=0)]


class BuildTime(FileModel):
    """What a build took. step: seconds of a training step. rest: seconds of all else, from its pictures to
    its verdict. judging: those of the verdict among them; None where nobody measured that. processes: that
    trained at once; None where nobody kept that."""

    step: _Seconds
    rest: _Seconds
    judging: _Seconds | None = None
    processes: Annotated[int | None, Field(ge=1)] = None

    def of(self, steps: int) -> float:
        """Seconds of a build like it of so many steps."""
        return self.rest + self.step * steps


class Durations:
    """The latest build of each kind, in the store at `root`."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "durations"

    def latest(self, key: str) -> BuildTime | None:
        """What the latest build of this kind took; None where there was none."""
        try:
            return BuildTime.model_validate_json((self._folder / key).read_bytes())
        except (OSError, ValidationError):
            return None

    def keep(self, key: str, time: BuildTime) -> None:
        """Remember what a build took."""
        with suppress(OSError, PerfError):
            make_folder(self._folder)
            replace_bytes(self._folder / key, time.model_dump_json().encode())
