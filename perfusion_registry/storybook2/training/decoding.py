"""The decoder trained on, on latents as a denoiser leaves them.

Decoded as drawn pages are, what a denoiser draws has mottled grounds and a seam at each cell: its latents
are off by more than the little noise that the first decoder was shown. So this one learns from pages that
the denoiser has painted anew from as far as half of the way to noise, and from stronger noise. The encoder,
and with it every latent, stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor

from perfusion_registry.storybook2.training.autoencoder import AutoencoderLearner, Examples, loaded
from perfusion_registry.storybook2.training.denoiser import SCHEDULER, Model
from perfusion_registry.storybook2.training.latents import Encoded, gathered, read_encoded
from perfusion_registry.storybook2.training.painting import chosen, empty_caption
from perfusion_registry.storybook2.training.plan import DecoderPlan, Plan
from perfusion_registry.storybook2.training.precision import autocast
from perfusion_registry.storybook2.training.stages import (
    chosen_autoencoder,
    images_of,
    linear_encoder,
    pictured,
    save_autoencoder,
    shape_of,
    train_and_fall,
)
from perfusion_registry.storybook2.training.work import Work


@dataclass(frozen=True)
class Painter:
    """A denoiser that paints pages anew. alphas: (1000,), the shares of signal. empty: ids (48,) of the empty
    caption, for guidance."""

    model: Model
    alphas: Tensor
    empty: Tensor

    @torch.no_grad()
    def repainted(self, z: Tensor, ids: Tensor, times: Tensor, *, steps: int, guidance: float) -> Tensor:
        """Latents z (B, c, h, w) of unit deviation, with the noise of `times` (B,) and brought back by DDIM
        in `steps` steps, for captions ids (B, 48). The noise is of torch's own chance."""
        x, clean = z, z
        noise = torch.randn_like(z)
        words = torch.cat([self.empty.expand_as(ids), ids])
        with autocast(z.device):
            states = self.model.text_encoder(words)[0]
        for left in range(steps, 0, -1):
            now = times * left // steps
            alpha = self.alphas[now][:, None, None, None]
            x = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
            with autocast(z.device):
                v = self.model.unet(x.repeat(2, 1, 1, 1), now.repeat(2), states, return_dict=False)[0].float()
            plain, told = v.chunk(2)
            v = plain + guidance * (told - plain)
            clean = alpha.sqrt() * x - (1 - alpha).sqrt() * v
            noise = (1 - alpha).sqrt() * x + alpha.sqrt() * v
        return clean


def spoilt_pages(
    images: Sequence[NDArray[np.uint8]],
    shards: Sequence[Encoded],
    painter: Painter,
    plan: DecoderPlan,
    *,
    batch: int,
    scale: float,
    device: str = "cpu",
) -> Examples:
    """Whole pages, with latents that are off by noise or painted anew.

    images, shards: arrays (n, h, w, 3) of uint8, and the latents and captions of the same pages. scale: what
    the autoencoder's latents are multiplied with to have unit deviation.
    """

    @torch.no_grad()
    def examples(rng: np.random.Generator, pages: int) -> tuple[Tensor, Tensor]:
        k = int(rng.integers(len(images)))
        rows = rng.integers(0, len(images[k]), batch)
        x = torch.from_numpy(np.stack([images[k][row] for row in rows])).permute(0, 3, 1, 2).to(device)
        told = gathered([shards[k]], rows, np.zeros(batch, np.int64)).to(device)
        z = told.z
        if rng.random() < plan.repainted:
            times = torch.from_numpy(rng.integers(plan.earliest, plan.latest, batch)).to(device)
            z = painter.repainted(z, told.ids, times, steps=plan.steps, guidance=plan.guidance)
        else:
            most = torch.from_numpy(rng.random(batch)).float().to(device) * plan.noise
            z = z + most[:, None, None, None] * torch.randn_like(z)
        return x.float().div_(127.5).sub_(1), z / scale

    return examples


def pages_of(work: Work, numbers: Sequence[int]) -> tuple[list[NDArray[np.uint8]], list[Encoded]]:
    """The pictures of shards and their latents, of those only that are both drawn and encoded."""
    encoded = [number for number in numbers if (work.latents / f"{number:06d}").exists()]
    drawn = [number for number in encoded if (work.drawings / f"{number:06d}" / "images.npy").exists()]
    return images_of(work, drawn), [read_encoded(work.latents / f"{number:06d}") for number in drawn]


def decoder(work: Work, plan: Plan) -> None:
    """Train the decoder on, from where its rate had not fallen yet if that is still known."""
    target = work.root / "vae-decoder"
    if (target / "config.json").exists():
        return
    encoder, device = linear_encoder(work, plan), plan.machine.device
    images, shards = pages_of(work, pictured(plan))
    alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod.to(device)
    painter = Painter(_painting(work, plan).to(device), alphas, empty_caption(work).to(device))
    examples = spoilt_pages(
        images,
        shards,
        painter,
        plan.decoder,
        batch=plan.autoencoder.batch,
        scale=encoder.scale,
        device=device,
    )

    def new() -> AutoencoderLearner:
        settings = replace(plan.autoencoder, seed=plan.decoder.seed)
        return AutoencoderLearner(examples, encoder, settings, vae=_begun(work, plan), device=device)

    learner = train_and_fall(
        work, plan, "decoder", new, pages=plan.budgets.decoder, fall=plan.budgets.decoder_fall
    )
    assert isinstance(learner, AutoencoderLearner)
    save_autoencoder(work, plan, "decoder", learner.finished().cpu(), target)
    _kept(work).unlink()


def _begun(work: Work, plan: Plan) -> AutoencoderKL:
    """The autoencoder at the full rate; where that was left on another machine, the finished one."""
    path = work.checkpoint("autoencoder")
    if not path.exists():
        return chosen_autoencoder(work)
    return loaded(torch.load(path, weights_only=True, map_location="cpu")["learner"], plan.autoencoder)


def _painting(work: Work, plan: Plan) -> Model:
    """The denoiser as it was when the decoder's training began: a resumed one is to see the same."""
    path = _kept(work)
    if not path.exists():
        beside = path.with_name(path.name + ".partial")
        torch.save({name: value.half() for name, value in chosen(work).state_dict().items()}, beside)
        beside.replace(path)
    model = Model(shape_of(work, plan))
    state = torch.load(path, weights_only=True, mmap=True)
    model.load_state_dict({name: value.float() for name, value in state.items()})
    return model.eval().requires_grad_(False)


def _kept(work: Work) -> Path:
    return work.root / "decoder-denoiser.pt"
