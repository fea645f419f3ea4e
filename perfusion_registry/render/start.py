"""The picture that a drawing starts from, and the mask of what may change: image to image, and inpainting."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from perfusion_registry.build.images import load_image, load_mask
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.render.request import Start

if TYPE_CHECKING:
    from perfusion_registry.base import Base

IMAGE_STRENGTH = 0.8
MASK_STRENGTH = 1.0
"""How much is drawn anew where nobody says: as diffusers' pipelines have it."""


@dataclass(frozen=True)
class StartImage:
    """The pictures themselves. image: RGB. mask: greys of the image's size, white where it is drawn anew;
    None where all of it may change. said: how the request says it. path: of the image's file."""

    image: Image.Image
    mask: Image.Image | None
    said: Start
    path: Path

    @classmethod
    def read(cls, image: Path, mask: Path | None, strength: float | None) -> StartImage:
        """Read both files. Raises PerfError for what is no picture, and for a mask of other proportions."""
        usual = IMAGE_STRENGTH if mask is None else MASK_STRENGTH
        loaded = load_image(image)
        said = Start(image=sha256_of(image), strength=usual if strength is None else strength)
        if mask is None:
            return cls(loaded.pixels, None, said, image)
        greys = load_mask(mask, loaded).resize(loaded.pixels.size, Image.Resampling.BILINEAR)
        return cls(loaded.pixels, greys, said.model_copy(update={"mask": sha256_of(mask)}), image)

    def of_strength(self, strength: float) -> StartImage:
        """The same with another strength."""
        return replace(self, said=self.said.model_copy(update={"strength": strength}))

    def inputs(self, width: int, height: int, count: int) -> dict[str, Any]:
        """What a pipeline takes for `count` pictures of this size: the middle of the image, of the size's
        proportions."""
        size = (width, height)
        image = ImageOps.fit(self.image, size, Image.Resampling.LANCZOS)
        inputs: dict[str, Any] = {"image": [image] * count, "strength": self.said.strength}
        if self.mask is not None:
            mask = ImageOps.fit(self.mask, size, Image.Resampling.BOX)
            inputs |= {"mask_image": [mask] * count, "width": width, "height": height}
        return inputs


def size_for(base: Base, picture: Image.Image) -> tuple[int, int]:
    """(width, height) of a picture's proportions, with as many pixels as the base draws by default; whole
    latents."""
    factor, (height, width) = base.pixels_per_step, base.picture_size
    scale = math.sqrt(width * height / (picture.width * picture.height))
    across, down = (max(factor, round(side * scale / factor) * factor) for side in picture.size)
    return across, down


def check_start(repo: str, draws: Collection[str], start: Start | None, steps: int) -> None:
    """Raise PerfError for a start that a base cannot draw from, and for none where it needs one.

    repo: the base's name. draws: as `Base.draws`.
    """
    if start is None:
        if "text" not in draws:
            raise PerfError(
                f"`{repo}` is made for inpainting: it draws into a picture",
                where="--image",
                hint="`perf render` with --image FILE and --mask FILE, white where it is to draw",
            )
        return
    if start.kind not in draws:
        does = "inpaints, and needs a --mask" if "inpaint" in draws else "draws from prompts alone"
        raise PerfError(f"`{repo}` {does}", where="--image")
    if int(steps * start.strength) < 1:
        raise PerfError(
            f"a strength of {start.strength:g} leaves none of {steps} steps to draw",
            where="--strength",
            hint=f"at least {math.ceil(100 / steps) / 100:g}, or more steps",
        )
