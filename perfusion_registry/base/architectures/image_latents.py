"""What architectures with diffusers' autoencoder of images (`AutoencoderKL`) have in common.

Importing this needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.interface import Base
from perfusion_registry.base.kinds import SUITABLE
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.base.autoencoder import Posterior


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageLatentsBase(Base):
    """A loaded base whose pictures go through an `AutoencoderKL`."""

    @property
    def vae(self) -> Any:
        """The autoencoder that pictures go through: the pipeline's, unless its format is too small."""
        return self.pipe.vae

    def latents(self, images: Tensor) -> Posterior:
        """By the VAE."""
        from perfusion_registry.base.autoencoder import encoded

        return encoded(self.vae, images, self.device, self.autocast())

    def pictures(self, latents: Tensor) -> Tensor:
        """By the VAE."""
        from perfusion_registry.base.autoencoder import decoded

        return decoded(self.vae, latents, self.autocast())

    def reconstructed(self, images: Tensor) -> Tensor:
        """By the VAE, in its own format."""
        from perfusion_registry.base.autoencoder import reconstructed

        return reconstructed(self.vae, images)

    @property
    def pixels_per_latent(self) -> int:
        """8, as a rule."""
        return int(self.pipe.vae_scale_factor)


def require_autoencoder(files: BaseFiles) -> None:
    """Raise PerfError for a base whose pictures go through another autoencoder."""
    named = files.classes.get("vae")
    if named != "AutoencoderKL":
        raise PerfError(
            f"the base's autoencoder is an {named}, and perf can only learn from those of an AutoencoderKL",
            where=str(files.folder),
            hint=SUITABLE,
        )


def channels(files: BaseFiles, denoiser: str) -> tuple[int, int]:
    """Of what a denoiser takes, and of a latent."""
    taken = files.configuration(denoiser).get("in_channels", 4)
    return taken, files.configuration("vae").get("latent_channels", 4)


def require_fitting_latents(files: BaseFiles, denoiser: str) -> None:
    """Raise PerfError unless a denoiser takes latents, and nothing beside them, of an autoencoder of ours."""
    require_autoencoder(files)
    taken, given = channels(files, denoiser)
    if taken != given:
        raise PerfError(
            f"the base's {denoiser} takes {taken} channels and a latent has {given}",
            where=files.place(denoiser),
            hint=SUITABLE,
        )
