"""What controls a drawing, loaded: the networks, and what a pipeline and its call take of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from perfusion_registry.base import Base
from perfusion_registry.base.control_kinds import CONTROL_KINDS
from perfusion_registry.base.image_prompts import ImagePrompts, image_prompts
from perfusion_registry.base.options import ControlPart
from perfusion_registry.base.readers import Reader
from perfusion_registry.render.control import ControlImage, control_inputs, controls_of, kind_of
from perfusion_registry.render.request import RenderRequest
from perfusion_registry.reporter import Reporter


@dataclass(frozen=True, eq=False)
class Controlled:
    """Of one request. kind: of the pipeline that draws. controls: the pictures, each with what reads it.
    components: what the pipeline has beside the base's own. readers: of them those that read the prompt.
    prompts: its IP-Adapters."""

    kind: str
    controls: Sequence[tuple[ControlImage, ControlPart]] = ()
    components: Mapping[str, Any] = field(default_factory=dict)
    readers: Sequence[Reader] = ()
    prompts: ImagePrompts | None = None

    @classmethod
    def of(
        cls, base: Base, request: RenderRequest, images: Sequence[ControlImage], reporter: Reporter
    ) -> Controlled:
        """Load what the request names, where it names anything. images: those that it names."""
        from perfusion_registry.base.controls import networks, readers

        parts = controls_of(base.description, request.controls, request.start_kind)
        kind, components = kind_of(base.description, request), {}
        over = [part for part in parts if part.kind != "ip-adapter"]
        several = networks(base, over, reporter) if over else []
        if over:
            one = len(several) == 1 or over[0].kind == "union"
            components[CONTROL_KINDS[over[0].kind].component] = several[0] if one else several
        adapters = [part for part in parts if part.kind == "ip-adapter"]
        prompts = image_prompts(base, adapters, reporter) if adapters else None
        if prompts is not None:
            components |= prompts.components
        controls = tuple(zip(images, parts, strict=True))
        return cls(kind, controls, components, readers(several), prompts)

    def within(self) -> AbstractContextManager[None] | None:
        """What the denoiser wears while a batch is drawn; None where that is nothing."""
        if self.prompts is None:
            return None
        return self.prompts.attached(
            [one.said.strength for one, part in self.controls if part.kind == "ip-adapter"]
        )

    def inputs(self, request: RenderRequest, count: int) -> dict[str, Any]:
        """What the pipeline's call takes for `count` pictures."""
        return control_inputs(self.controls, request.start_kind, request.width, request.height, count)
