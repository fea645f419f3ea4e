"""The encoder: a linear transform of each cell of a page, found by principal components and written into the
stock `AutoencoderKL`.

On flat drawings principal components tell more in 16 numbers a cell than an encoder that was trained for
hours, and in 32 they tell eyes and hearts (docs/log.md). They are found in seconds, and every latent is
fixed before a decoder or a denoiser is trained. A trained decoder does better than the linear inverse, which
knows nothing of a cell's neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

WHITENED = 0.5
"""Latents' deviations are those of the components to this power: 1 leaves them as they are, 0 makes them
alike. Between, what is coarse is drawn first, and what is fine is not below the sampler's last noise."""
STILL = 100.0
"""How large the encoder's constant channels are, in the largest deviation of a latent."""


@dataclass(frozen=True)
class LinearEncoder:
    """A linear transform of cells. A cell of 2^L pixels along a side takes L levels.

    means, bases: of each level, (4 c,) and (4 c, k): what is subtracted from four neighbours of c channels,
    and their k components. last: (k, channels), from the last level's components to latents, whose deviations
    are `deviations` (channels,).
    """

    means: tuple[Tensor, ...]
    bases: tuple[Tensor, ...]
    last: Tensor
    deviations: Tensor

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, channels, h, w) of pictures (B, 3, H, W) in -1..1."""
        for mean, basis in zip(self.means, self.bases, strict=True):
            x = functional.pixel_unshuffle(x, 2) - mean[:, None, None]
            x = functional.conv2d(x, basis.T[:, :, None, None])
        return functional.conv2d(x, self.last.T[:, :, None, None])

    def decode(self, z: Tensor) -> Tensor:
        """The pictures (B, 3, H, W) that latents stand for, cell by cell; the inverse, where there is one."""
        x = functional.conv2d(z, torch.linalg.pinv(self.last.T)[:, :, None, None])
        for mean, basis in zip(reversed(self.means), reversed(self.bases), strict=True):
            x = functional.conv2d(x, basis[:, :, None, None]) + mean[:, None, None]
            x = functional.pixel_shuffle(x, 2)
        return x

    def to(self, device: str) -> LinearEncoder:
        """The same on a device."""
        return LinearEncoder(
            tuple(mean.to(device) for mean in self.means),
            tuple(basis.to(device) for basis in self.bases),
            self.last.to(device),
            self.deviations.to(device),
        )

    @property
    def scale(self) -> float:
        """What gives all latents together a deviation of one."""
        return float((self.deviations**2).mean() ** -0.5)


def fit(pages: NDArray[np.uint8], widths: Sequence[int], channels: int) -> LinearEncoder:
    """The principal components of pages (n, H, W, 3), level by level.

    widths: of the autoencoder's levels; a level hands on at most as many components as it has channels.
    """
    x = torch.from_numpy(pages).permute(0, 3, 1, 2).float() / 127.5 - 1
    means, bases = [], []
    for width in widths[:-1]:
        x = functional.pixel_unshuffle(x, 2)
        mean, _, basis = _components(x, width)
        x = functional.conv2d(x - mean[:, None, None], basis.T[:, :, None, None])
        means.append(mean)
        bases.append(basis)
    _, variances, basis = _components(x, channels)
    deviations = variances.sqrt() ** WHITENED
    return LinearEncoder(tuple(means), tuple(bases), basis * (deviations / variances.sqrt()), deviations)


def save(encoder: LinearEncoder, folder: Path) -> None:
    """Write it as `linear.pt` in a folder, which appears with it."""
    beside = folder.with_name(f"{folder.name}.partial")
    beside.mkdir(parents=True, exist_ok=True)
    torch.save(vars(encoder), beside / "linear.pt")
    beside.rename(folder)


def load(folder: Path) -> LinearEncoder:
    """Read what `save` wrote."""
    return LinearEncoder(**torch.load(folder / "linear.pt", weights_only=True))


def _components(x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The mean (c,) of x (n, c, h, w), its greatest variances (k,), and their directions (c, k)."""
    flat = x.permute(0, 2, 3, 1).flatten(0, 2).double()
    mean = flat.mean(0)
    flat = flat - mean
    variances, directions = torch.linalg.eigh(flat.T @ flat / len(flat))
    order = variances.argsort(descending=True)[:count]
    directions = directions[:, order]
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    return mean.float(), variances[order].float(), (directions * signs).float()


@torch.no_grad()
def write(encoder: LinearEncoder, vae: AutoencoderKL) -> None:
    """Make the encoder of a stock autoencoder compute it.

    Every residual branch is zero, and what goes past them is the transform. Before the last convolution stand
    a group norm and SiLU: constant channels, much larger than the others, make the norm divide by nearly the
    same number whatever the page, and a latent comes as `silu(z) - silu(-z)`, which is z.
    """
    blocks, widths = list(vae.encoder.down_blocks), vae.config["block_out_channels"]
    channels, groups = encoder.last.shape[1], vae.config["norm_num_groups"]
    still = widths[-1] - 2 * channels
    if still < 2 * groups or still % (2 * groups) or channels % groups or widths[-1] == widths[-2]:
        raise ValueError(f"{widths[-1]} channels at the last level cannot carry {channels} latents")
    _identity(vae.encoder.conv_in, torch.eye(3))
    for block in (*blocks, vae.encoder.mid_block):
        for resnet in block.resnets:
            resnet.conv2.weight.zero_()
            resnet.conv2.bias.zero_()
            if resnet.conv_shortcut is not None:
                _identity(resnet.conv_shortcut, torch.eye(resnet.conv_shortcut.in_channels))
    for block, mean, basis in zip(blocks, encoder.means, encoder.bases, strict=False):
        convolution = block.downsamplers[0].conv
        _clear(convolution)
        below, count = len(mean) // 4, basis.shape[1]
        convolution.weight[:count, :below, :2, :2] = basis.T.reshape(count, below, 2, 2)
        convolution.bias[:count] = -(basis.T @ mean)
    constant = STILL * float(encoder.deviations.max())
    shortcut = blocks[-1].resnets[0].conv_shortcut
    _clear(shortcut)
    for group, latents in enumerate(torch.arange(channels).chunk(groups)):
        rows = torch.arange(widths[-1]).chunk(groups)[group]
        plus, minus, rest = rows.split([len(latents), len(latents), len(rows) - 2 * len(latents)])
        into = encoder.last.T[latents][:, :, None, None]
        shortcut.weight[plus, : into.shape[1]] = into
        shortcut.weight[minus, : into.shape[1]] = -into
        shortcut.bias[rest] = constant * torch.tensor([1.0, -1.0]).repeat(len(rest) // 2)
        variance = (2 * (encoder.deviations[latents] ** 2).sum() + len(rest) * constant**2) / len(rows)
        vae.encoder.conv_norm_out.weight[rows] = variance.sqrt()
        vae.encoder.conv_norm_out.bias[rows] = 0.0
        if group == 0:
            _clear(vae.encoder.conv_out)
        vae.encoder.conv_out.weight[latents, plus, 1, 1] = 1.0
        vae.encoder.conv_out.weight[latents, minus, 1, 1] = -1.0
    vae.encoder.conv_out.bias[channels:] = -14.0  # a deviation of e^-7: there is no chance in it
    _identity(vae.quant_conv, torch.eye(2 * channels))


def _identity(convolution: nn.Conv2d, matrix: Tensor) -> None:
    """Let a convolution pass its first channels on."""
    _clear(convolution)
    middle = convolution.kernel_size[0] // 2
    convolution.weight[: len(matrix), : matrix.shape[1], middle, middle] = matrix


def _clear(convolution: nn.Conv2d) -> None:
    convolution.weight.zero_()
    assert convolution.bias is not None
    convolution.bias.zero_()
