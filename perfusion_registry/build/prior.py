"""Prior preservation (DreamBooth, Section 4.2): pictures that the base draws of a concept's supercategory, to
be learned beside the concept's own, so that the word keeps what it means."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from perfusion_registry import amounts
from perfusion_registry.build.latents import PARTS, Latents, encode_latents, joined
from perfusion_registry.build.sampling import draw
from perfusion_registry.build.tensorfile import parse_tensors, write_tensors
from perfusion_registry.errors import PerfError
from perfusion_registry.memory import REFUSED, out_of_memory
from perfusion_registry.methods.prompts import Prompts, unedited
from perfusion_registry.reporter import unheard

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Tokens

BATCH = 8
"""Pictures drawn together, where memory suffices."""
SECONDS = 10.0
"""How often what was drawn is kept."""
_KEY = "prior_pictures"


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
    kept: Path | None = None,
    advance: Callable[[int], None] = unheard,
    note: Callable[[str], None] | None = None,
) -> Latents:
    """The base's own pictures of one prompt, each batch encoded as it is drawn, since pixels take many times
    the memory; with `flip` their mirror images after all of them.

    shape: (c, h, w) of a picture's latents. count: N. kept: a file, of this training alone, from which a
    build that was interrupted takes what it had drawn. advance: told of each step of each picture, N `steps`.
    note: told where memory is short, so that fewer are drawn together. Returns latents on the CPU. Raises
    what torch does where it does not suffice for one.
    """
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))
    asked = (prompt.ids, [*shape], count, seed, steps, guidance, flip)
    rounded = (base.device.type, base.compute_dtype, torch.get_num_threads())  # the last bits depend on these
    store = _Kept(kept, f"{asked} {rounded}")
    plain, mirrored = store.read()
    together, told, cpu = BATCH, _Told(advance), torch.device("cpu")
    done = sum(len(part.mean) for part in plain)
    told.more(done, steps)
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
            plain.append(encode_latents(base, drawn, weight, flip=False).to(cpu))
            if flip:
                mirrored.append(encode_latents(base, drawn.flip(-1), weight, flip=False).to(cpu))
            done += len(some)
            store.write(plain, mirrored, last=done == count)
    return joined([*plain, *mirrored])


def prior_prompt(base: Base, template: str, supercategory: str) -> Tokens:
    """What they are drawn and learned under: a template with the plain supercategory."""
    return Prompts.of(base, [template], supercategory, spelled=True).tokens[0]


class _Kept:
    """A file with the pictures that were drawn so far; without a path nothing is kept."""

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path, self._identity, self._saved = path, identity, time.monotonic()

    def read(self) -> tuple[list[Latents], list[Latents]]:
        """Those of the very same drawing, and their mirror images."""
        try:
            tensors, identity = parse_tensors(self._path.read_bytes() if self._path else b"", _KEY, "")
        except (OSError, PerfError):
            return [], []
        if identity != self._identity:
            return [], []

        def named(start: str) -> list[Latents]:
            parts = [tensors.get(f"{start}.{part}") for part in PARTS]
            found = [part for part in parts if part is not None]
            return [Latents(*found)] if len(found) == len(PARTS) else []

        return named("plain"), named("mirrored")

    def write(self, plain: Sequence[Latents], mirrored: Sequence[Latents], *, last: bool) -> None:
        """Keep them, now and then, and the last."""
        if self._path is None or not (last or time.monotonic() - self._saved >= SECONDS):
            return
        tensors = {
            f"{start}.{part}": getattr(joined(some), part)
            for start, some in (("plain", plain), ("mirrored", mirrored))
            if some
            for part in PARTS
        }
        write_tensors(self._path, tensors, _KEY, self._identity)
        self._saved = time.monotonic()


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
