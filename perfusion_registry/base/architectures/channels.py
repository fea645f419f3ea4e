"""What a UNet takes, told by its channels: latents alone, or for inpainting a masked picture beside them.

Importing this needs no torch.
"""

from __future__ import annotations

from perfusion_registry.base.architectures.image_latents import channels, require_autoencoder
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.errors import PerfError

_FOR_INPAINTING = (9, 4)
"""Channels of a UNet that takes a mask and the masked picture's latent, and of a latent; diffusers has no
others."""


def require_latents(files: BaseFiles) -> None:
    """Raise PerfError unless the UNet takes latents of an autoencoder of ours, and nothing beside them but,
    for inpainting, a mask and the masked picture's."""
    require_autoencoder(files)
    taken, given = channels(files, "unet")
    if taken != given and (taken, given) != _FOR_INPAINTING:
        raise PerfError(
            f"the base's UNet takes {taken} channels and a latent has {given}: perf cannot draw with one "
            "that is made for editing or for making pictures larger",
            where=files.place("unet"),
            hint="name the base that it was made from; in programs, `composed` draws in its pipeline",
        )


def require_latents_alone(files: BaseFiles) -> None:
    """Raise PerfError for a base that is made for inpainting: it can draw concepts, and not learn them."""
    if draws(files) == ("inpaint",):
        raise PerfError(
            "no concept can be trained on this base: it is made for inpainting, and its UNet takes a masked "
            "picture beside the latents",
            where=files.place("unet"),
            hint="build with the base that it was made from, and draw with this one: perf render ... "
            "--for BASE --image FILE --mask FILE",
        )


def draws(files: BaseFiles) -> tuple[str, ...]:
    """What a base draws from; see `Base.draws`."""
    taken, given = channels(files, "unet")
    return ("text", "image", "inpaint") if taken == given else ("inpaint",)
