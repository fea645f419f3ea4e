"""The options of pictures that a drawing starts from or is controlled by, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from perfusion_registry.cli.help import picture_option
from perfusion_registry.errors import PerfError, at


@dataclass(frozen=True)
class StartOptions:
    """What the command line says of pictures to draw from."""

    image: Annotated[
        Path | None,
        picture_option("FILE", "Draw from this picture, in its proportions unless --size is given."),
    ] = None
    strength: Annotated[
        float | None,
        picture_option(
            "S",
            "How much of --image is drawn anew: 0.3 changes a little, 1 all.",
            default="0.8, or 1 with --mask",
        ),
    ] = None
    mask: Annotated[
        Path | None,
        picture_option("FILE", "Draw anew only what is white in this picture; the rest of --image stays."),
    ] = None
    control: Annotated[
        list[str] | None,
        picture_option(
            "NAME=FILE",
            "Let this picture control the drawing, through the network that perfusion.toml calls NAME "
            "among the base's controls. Repeatable.",
        ),
    ] = None
    control_strength: Annotated[
        list[str] | None,
        picture_option(
            "[NAME=]S",
            "How strongly all controls act, or one. Repeatable.",
            "--control-strength",
            default="1",
        ),
    ] = None

    def read(self) -> dict[str, Any]:
        """What is said, by the fields of `RenderOverrides`. Raises PerfError for what is said twice, and for
        a strength that is no number."""
        controls: dict[str, Path] = {}
        for text in self.control or ():
            name, equals, file = text.partition("=")
            if not (name and equals and file):
                raise PerfError(
                    f"{text!r} does not say which control reads which picture",
                    where=f"--control {text}",
                    hint="write NAME=FILE, as --control canny=edges.png",
                )
            if name in controls:
                raise PerfError(f"the control {name} is given two pictures", where=f"--control {text}")
            controls[name] = Path(file)
        strengths = dict(_strengths(self.control_strength or ()))
        return {
            "image": self.image,
            "strength": self.strength,
            "mask": self.mask,
            "controls": controls,
            "control_strength": strengths.pop("", None),
            "control_strengths": strengths,
        }


def _strengths(texts: Iterable[str]) -> Iterable[tuple[str, float]]:
    """(name, strength) of each text; the name is empty where the strength is of all."""
    for text in texts:
        name, _, number = text.rpartition("=")
        with at(f"--control-strength {text}"):
            try:
                yield name, float(number)
            except ValueError:
                raise PerfError(f"{number!r} is no number", hint="write .8, or NAME=.8") from None
