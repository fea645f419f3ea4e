"""What is said of a picture beside its prompt: the fields of a request, and the files to draw from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.control_kinds import CONTROL_KINDS
from perfusion_registry.base.upscaler import find_upscaler
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.given import Given
from perfusion_registry.render.request import (
    CONTROL_STRENGTH,
    PAPER_STEPS,
    RenderRequest,
    read_negative,
    resolve_request,
)

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseIdentity

_FILES = ("image", "mask", "strength", "controls", "control_strength", "control_strengths")
"""The fields that say which files to draw from, and how."""


@dataclass(frozen=True, kw_only=True)
class RenderOverrides:
    """The fields of a request that are said; None leaves one to the base's card, or to the picture drawn
    again. image, mask, strength: files to draw from, and how much is drawn anew. controls: files that
    control it, by the base's controls; control_strength, control_strengths: of all of them, and by name.
    """

    seeds: tuple[int, ...] | None = None
    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None
    batch: int | None = None
    upscale: bool | None = None
    image: Path | None = None
    mask: Path | None = None
    strength: float | None = None
    controls: Mapping[str, Path] = field(default_factory=dict)
    control_strength: float | None = None
    control_strengths: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise PerfError for a value out of range, for a negative prompt that calls a concept, for a mask
        or a strength without an image, and for a control's strength without the control."""
        if self.image is None:
            for option, value in (("--mask", self.mask), ("--strength", self.strength)):
                if value is not None:
                    raise PerfError(
                        f"{option} goes with an image", where=f"{option} {value}", hint="add --image FILE"
                    )
        if self.strength is not None and not 0 < self.strength <= 1:
            raise PerfError(
                "a strength is more than 0 and at most 1",
                where=f"--strength {self.strength:g}",
                hint="0.3 changes a little, 0.8 much",
            )
        self._check_controls()
        read_negative(self.negative_prompt or "")
        resolve_request(self.values, {}, native={"width": 64, "height": 64})

    def _check_controls(self) -> None:
        said = {} if self.control_strength is None else {"": self.control_strength}
        for name, strength in {**said, **self.control_strengths}.items():
            where = f"--control-strength {name}{'=' if name else ''}{strength:g}"
            if not self.controls or (name and name not in self.controls):
                raise PerfError(
                    "a control's strength goes with its picture",
                    where=where,
                    hint=f"add --control {name or 'NAME'}=FILE",
                )
            if not 0 < strength <= 4:
                raise PerfError(
                    "a control's strength is more than 0 and at most 4",
                    where=where,
                    hint="1 is as it was trained",
                )

    @property
    def values(self) -> dict[str, Any]:
        """What is said, by field."""
        return {key: value for key, value in vars(self).items() if value is not None and key not in _FILES}

    def values_on(self, base: Base) -> dict[str, Any]:
        """What is said, with the format that the negative prompt has on a base."""
        from perfusion_registry.render.draw import negative_format

        negative = self.negative_prompt
        said = {} if negative is None else {"negative_format": negative_format(base, negative)}
        return self.values | said

    def strength_of(self, control: str) -> float | None:
        """What is said of one control's strength."""
        return self.control_strengths.get(control, self.control_strength)

    def given(self, base: BaseIdentity) -> Given:
        """The pictures to draw from, read. base: whose controls are meant.

        Raises PerfError for what is no picture, for controls that the base does not have or cannot draw with
        so, and for pictures that lie over each other and have other proportions.
        """
        if self.image is None and not self.controls:
            return Given()
        from perfusion_registry.render.control import ControlImage, check_proportions, controls_of
        from perfusion_registry.render.start import StartImage

        start = None if self.image is None else StartImage.read(self.image, self.mask, self.strength)
        controls = []
        for name, path in self.controls.items():
            strength = self.strength_of(name)
            controls.append(ControlImage.read(name, path, CONTROL_STRENGTH if strength is None else strength))
        kind = "text" if start is None else start.said.kind
        parts = controls_of(base, [one.said for one in controls], kind)
        over = [one for one, part in zip(controls, parts, strict=True) if CONTROL_KINDS[part.kind].over]
        lying: list[StartImage | ControlImage] = [*([] if start is None else [start]), *over]
        check_proportions({str(one.path): one.image for one in lying})
        return Given(start, tuple(controls), next(iter(lying), None))

    def with_strengths_of(self, request: RenderRequest, given: Given) -> Given:
        """The same pictures with the strengths of a request, where none is said, and in its order."""
        start = given.start
        if start is not None and request.start is not None and self.strength is None:
            start = start.of_strength(request.start.strength)
        strengths = {one.name: one.strength for one in request.controls}
        controls = [
            one.of_strength(strengths[one.said.name])
            if one.said.name in strengths and self.strength_of(one.said.name) is None
            else one
            for one in given.controls
        ]
        places = {name: place for place, name in enumerate(strengths)}
        controls.sort(key=lambda one: places.get(one.said.name, len(places)))
        return replace(given, start=start, controls=tuple(controls))

    def check(self, base: BaseIdentity, given: Given, again: RenderRequest | None = None) -> None:
        """Raise PerfError for what can be told to be impossible before the base is loaded.

        again: the request of a picture that is drawn again.
        """
        from perfusion_registry.render.start import check_start

        if self.upscale:
            find_upscaler(base)
        usual = again.steps if again is not None else base.card.render.get("steps", PAPER_STEPS)
        start = None if given.start is None else given.start.said
        steps = usual if self.steps is None else self.steps
        check_start(base.repo, base.draws, start, int(steps))

    @property
    def sized(self) -> bool:
        """Whether a size is said."""
        return self.width is not None or self.height is not None
