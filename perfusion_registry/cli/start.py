"""The options of pictures that a drawing starts from or is controlled by, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from perfusion_registry.cli.help import picture_option


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
        """What is said, by the fields of `RenderOverrides`."""
        from perfusion_registry.operations.control_options import read_controls, read_strengths

        controls = read_controls(self.control or ())
        every, strengths = read_strengths(self.control_strength or ())
        return {
            "image": self.image,
            "strength": self.strength,
            "mask": self.mask,
            "controls": controls,
            "control_strength": every,
            "control_strengths": strengths,
        }
