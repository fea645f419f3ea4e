"""What a denoiser answers to a composition, in either form of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Conditioning, Form
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.focusing import residuals
from perfusion_registry.compose.packing import edited
from perfusion_registry.compose.prompt import parse_prompt


@torch.no_grad()
def answered(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    form: Form,
    times: Sequence[float] = (0.95, 0.5),
    negative: str = "blue hat",
) -> Tensor:
    """What it says of a prompt and an unwanted one, at shares of the noise, one after the other: (T, 2, c, 8,
    8)."""
    prompts = [composition.parsed, parse_prompt(negative)]
    extra = residuals(base, composition, artifacts)
    read = edited(base, composition, artifacts, prompts, form=form)
    assert read.form == form
    wanted, unwanted = extra.marked(read, prompts)
    both = Conditioning.joined([wanted, unwanted if negative else base.without_negative(unwanted)])
    channels = base.denoiser.config.in_channels
    x = torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    with extra.attached(base, thin=read.thin):
        said = [base.denoise(x, torch.tensor([base.objective.time(share)] * 2), both) for share in times]
    return torch.stack(said)


def apart(
    base: Base, composition: Composition, artifacts: Mapping[str, Artifact], negative: str = "blue hat"
) -> float:
    """The largest difference of the answers in both forms, whose numbers are about 1."""
    forms: tuple[Form, ...] = ("packed", "thin")
    packed, thin = (answered(base, composition, artifacts, form, negative=negative) for form in forms)
    return float((packed - thin).abs().max())
