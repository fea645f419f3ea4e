"""The pictures that control a drawing, such as the edges that it is to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from perfusion_registry.base.control_kinds import CONTROL_KINDS, pipeline_kind
from perfusion_registry.build.images import load_image
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.render.request import Control, RenderRequest
from perfusion_registry.suggestions import did_you_mean

if TYPE_CHECKING:
    from perfusion_registry.base.identity import BaseIdentity
    from perfusion_registry.base.options import ControlPart


@dataclass(frozen=True)
class ControlImage:
    """A picture itself, RGB. path: of its file. said: how the request says it."""

    image: Image.Image
    path: Path
    said: Control

    @classmethod
    def read(cls, name: str, path: Path, strength: float) -> ControlImage:
        """Read the file. Raises PerfError for what is no picture."""
        image = load_image(path).pixels
        return cls(image, path, Control(name=name, image=sha256_of(path), strength=strength))

    def of_strength(self, strength: float) -> ControlImage:
        """The same with another strength."""
        return replace(self, said=self.said.model_copy(update={"strength": strength}))


def controls_of(base: BaseIdentity, controls: Sequence[Control], start: str) -> list[ControlPart]:
    """The base's controls that a request names. start: what is drawn from; see `Base.pipelines`.

    Raises PerfError for one that the base does not have, for kinds that diffusers has no pipeline for
    together, and for a kind that it has none for with such a start.
    """
    found = [_found(base, said.name) for said in controls]
    where = " ".join(f"--control {said.name}" for said in controls)
    for kind, several, hint in (
        ("union", "networks", "let one of them read all these pictures: it is for that"),
        ("ip-adapter", "image encoders", "take IP-Adapters of one image encoder"),
    ):
        of_kind = [one for one in found if one.kind == kind]
        if len({one.parts[-1].digest for one in of_kind}) > 1:
            raise PerfError(
                f"{several} of two {CONTROL_KINDS[of_kind[0].kind].called.split()[1]}s cannot draw one "
                "picture together",
                where=where,
                hint=hint,
            )
    kinds = list(dict.fromkeys(one.kind for one in found))
    beside = [kind for kind in kinds if kind != "ip-adapter"]  # which goes with any but a T2I-Adapter
    if len(beside) > 1 or (beside == ["adapter"] and len(kinds) > 1):
        called = " and ".join(CONTROL_KINDS[kind].called for kind in kinds)
        raise PerfError(
            f"{called} cannot draw one picture together: diffusers has no pipeline for them",
            where=where,
            hint="leave out one of them",
        )
    for one in found:
        if start not in CONTROL_KINDS[one.kind].starts:
            raise PerfError(
                f"{CONTROL_KINDS[one.kind].called} draws from a prompt alone: diffusers has no pipeline for "
                f"it with {'an image' if start == 'image' else 'a mask'}",
                where=f"--control {one.name}",
                hint="leave --image out, or take a ControlNet",
            )
    return found


def _found(base: BaseIdentity, name: str) -> ControlPart:
    there = {one.name: one for one in base.options.controls}
    if name in there:
        return there[name]
    there_are = f"there is {', '.join(there)}"
    none = f'name one in perfusion.toml, as [base.controls] {name} = "FILE"'
    raise PerfError(
        f"the base {base.repo} has no control called `{name}`",
        where=f"--control {name}",
        hint=did_you_mean(name, there, there_are if there else none),
    )


def kind_of(base: BaseIdentity, request: RenderRequest) -> str:
    """The kind of pipeline that draws a request; see `Base.pipelines`."""
    kinds = [one.kind for one in controls_of(base, request.controls, request.start_kind)]
    return pipeline_kind(request.start_kind, next((kind for kind in kinds if kind != "ip-adapter"), None))


def check_proportions(pictures: Mapping[str, Image.Image]) -> None:
    """Raise PerfError where pictures that lie over each other have other proportions. pictures: by what they
    are called."""
    sizes = [(name, image.size) for name, image in pictures.items()]
    for name, (w, h) in sizes[1:]:
        first, (width, height) = sizes[0]
        if abs(w * height - h * width) > 0.01 * w * height:
            raise PerfError(
                f"these lie over each other: {first} is {width} x {height}, and {name} is {w} x {h}",
                where=name,
                hint="cut both to the same proportions",
            )


def check_multiples(parts: Sequence[ControlPart], width: int, height: int) -> None:
    """Raise PerfError for a size that one of the controls cannot work with."""
    for part in parts:
        if width % part.multiple or height % part.multiple:
            sides = (
                max(part.multiple, round(side / part.multiple) * part.multiple) for side in (width, height)
            )
            raise PerfError(
                f"the control {part.name} draws pictures whose sides are multiples of {part.multiple}, "
                f"and {width}x{height} is none",
                where="--size",
                hint=f"the nearest is {'x'.join(map(str, sides))}",
            )


def control_inputs(
    controls: Sequence[tuple[ControlImage, ControlPart]], start: str, width: int, height: int, count: int
) -> dict[str, Any]:
    """What a pipeline takes of controls for `count` pictures of this size: of those whose picture lies over
    it, the middle of each, of the size's proportions. The parts are the base's own."""
    prompts = [one.image for one, part in controls if part.kind == "ip-adapter"]
    given: dict[str, Any] = {"ip_adapter_image": prompts} if prompts else {}
    over = [(one, part) for one, part in controls if part.kind != "ip-adapter"]
    if not over:
        return given
    images: list[Any] = []
    for one, part in over:
        image = one.image.convert("L") if part.grey else one.image
        images.append(ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS))
    kind, scales = over[0][1].kind, [one.said.strength for one, _ in over]
    scale = CONTROL_KINDS[kind].scale
    if kind == "union":
        modes = [part.mode for _, part in over]
        return given | {"control_image": images, "control_mode": modes, scale: scales}
    if kind == "adapter":
        images = [[image] * count for image in images]
    alone = len(over) == 1
    called = "image" if start == "text" else "control_image"
    return given | {called: images[0] if alone else images, scale: scales[0] if alone else scales}
