"""Prior preservation (DreamBooth, Section 4.2): pictures that the base draws of a concept's supercategory, to
be learned beside the concept's own, so that the word keeps what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.build.sampling import draw
from perfusion_registry.methods.prompts import Prompts, unedited
from perfusion_registry.reporter import unheard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfusion_registry.base import Base, Tokens

BATCH = 8
"""Pictures drawn together."""


def draw_prior(
    base: Base,
    prompt: Tokens,
    shape: Sequence[int],
    count: int,
    *,
    seed: int,
    steps: int,
    guidance: float,
    advance: Callable[[int], None] = unheard,
) -> Tensor:
    """The base's own pictures of one prompt, (N, 3, H, W) in 0..1, on the CPU.

    shape: (c, h, w) of a picture's latents. count: N. advance: told of each step of each `BATCH` of them.
    """
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    pictures = []
    with torch.no_grad(), base.attached():
        wanted = unedited(base, base.encode([prompt]))
        unwanted = base.without_negative(unedited(base, base.encode([base.tokenise([])])))
        for some in noise.split(BATCH):
            branches = wanted.repeated(len(some)), unwanted.repeated(len(some))
            drawn = draw(base, *branches, some, steps=steps, guidance=guidance, advance=advance)
            pictures.append(drawn.cpu())
    return torch.cat(pictures)


def prior_prompt(base: Base, template: str, supercategory: str) -> Tokens:
    """What they are drawn and learned under: a template with the plain supercategory."""
    return Prompts.of(base, [template], supercategory, spelled=True).tokens[0]
