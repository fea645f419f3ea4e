"""Prior preservation (DreamBooth, Section 4.2): pictures that the base draws of a concept's supercategory, to
be learned beside the concept's own, so that the word keeps what it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from perfusion_registry import amounts
from perfusion_registry.build.latents import Latents, encode_latents, joined
from perfusion_registry.build.sampling import draw
from perfusion_registry.memory import REFUSED, out_of_memory
from perfusion_registry.methods.prompts import Prompts, unedited
from perfusion_registry.reporter import unheard

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Tokens

BATCH = 8
"""Pictures drawn together, where memory suffices."""


def draw_prior(
    base: Base,
    prompt: Tokens,
    shape: Sequence[int],
    count: int,
    *,
    seed: int,
    steps: int,
    guidance: float,
    flip: bool,
    advance: Callable[[int], None] = unheard,
    note: Callable[[str], None] | None = None,
) -> Latents:
    """The base's own pictures of one prompt, each batch encoded as it is drawn, since pixels take many times
    the memory; with `flip` their mirror images after all of them.

    shape: (c, h, w) of a picture's latents. count: N. advance: told of each step of each picture, N `steps`.
    note: told where memory is short, so that fewer are drawn together. Raises what torch does where it does
    not suffice for one.
    """
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    plain: list[Latents] = []
    mirrored: list[Latents] = []
    done, together, told = 0, BATCH, _Told(advance)
    with torch.no_grad(), base.attached():
        wanted = unedited(base, base.encode([prompt]))
        unwanted = base.without_negative(unedited(base, base.encode([base.tokenise([])])))
        while done < count:
            some, drawn = noise[done : done + together], None
            branches = wanted.repeated(len(some)), unwanted.repeated(len(some))
            told.now = done * steps
            tell = partial(told.more, len(some))
            try:
                drawn = draw(base, *branches, some, steps=steps, guidance=guidance, advance=tell)
            except REFUSED as error:
                if not out_of_memory(error) or len(some) == 1:
                    raise
            if drawn is None:  # not where the error is at hand, whose frames hold what was computed
                together = len(some) // 2
                if note is not None:
                    few = amounts.count(together, "picture")
                    note(f"memory is short, so {few} at a time, which takes longer")
                if base.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            weight = torch.ones_like(drawn[:, :1])
            plain.append(encode_latents(base, drawn, weight, flip=False))
            if flip:
                mirrored.append(encode_latents(base, drawn.flip(-1), weight, flip=False))
            done += len(some)
    return joined([*plain, *mirrored])


def prior_prompt(base: Base, template: str, supercategory: str) -> Tokens:
    """What they are drawn and learned under: a template with the plain supercategory."""
    return Prompts.of(base, [template], supercategory, spelled=True).tokens[0]


@dataclass
class _Told:
    """Steps of pictures; those that are made again are not told again. now: how many are done."""

    advance: Callable[[int], None]
    now: int = 0
    most: int = 0

    def more(self, pictures: int, times: int) -> None:
        self.now += pictures * times
        self.advance(max(self.now - self.most, 0))
        self.most = max(self.now, self.most)
