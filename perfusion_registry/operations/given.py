"""The pictures that a drawing is given: what it starts from, and what controls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfusion_registry.base import Base
    from perfusion_registry.render.control import ControlImage
    from perfusion_registry.render.request import RenderRequest
    from perfusion_registry.render.start import StartImage


@dataclass(frozen=True)
class Given:
    """Pictures, read. start: what is drawn from; None for noise alone. controls: what controls it. first: the
    one of them whose proportions are those of the drawing; None where there is none."""

    start: StartImage | None = None
    controls: tuple[ControlImage, ...] = ()
    first: StartImage | ControlImage | None = None

    @property
    def said(self) -> dict[str, Any]:
        """Fields of a request: which pictures these are."""
        start = None if self.start is None else self.start.said
        return {"start": start, "controls": tuple(one.said for one in self.controls)}

    def size(self, base: Base) -> tuple[int, int]:
        """(width, height) in pixels of the proportions of the first; see `size_for`."""
        from perfusion_registry.render.start import size_for

        assert self.first is not None
        return size_for(base, self.first.image)

    def is_of(self, request: RenderRequest) -> bool:
        """Whether these are the very pictures that a request names."""
        return self.said == {"start": request.start, "controls": request.controls}

    def lacking(self, request: RenderRequest) -> list[str]:
        """How a command gives what a request names and is not given at all; nothing where all is."""
        lacking = []
        if request.start is not None and self.start is None:
            lacking.append("--image FILE" + (" and --mask FILE" if request.start.mask else ""))
        there = {one.said.name for one in self.controls}
        return lacking + [f"--control {one.name}=FILE" for one in request.controls if one.name not in there]
