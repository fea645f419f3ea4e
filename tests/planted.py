"""Planted concepts: a hidden embedding and o*_V make the denoiser's targets, and a build has to recover them.

What hides is made by a transcription of the paper's equations in fp64 (`tests/paper.py`); from
there on all is an ordinary build. `tests/build/test_planted.py` and `benchmarks/matrix` ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base, ConceptPiece, Conditioning
from perfusion_registry.build import ConceptSources, build_concept, estimate_covariance
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from tests.anima import save_tiny_anima
from tests.paper import parted
from tests.pixart import save_tiny_pixart
from tests.sd2 import save_tiny_sd2
from tests.sdxl import save_shallow_sdxl
from tests.tiny import save_tiny_base

CAPTIONS = ["a photo of a teddy", "a cat in the snow", "a teapot on a table", "a red boat at sea"]
OPTIONS = TrainOptions(
    steps=120, batch=2, validate_every=120, templates=("a photo of a {}",), mask="none", flip=False,
    learning_rate_output=0.1, learning_rate_embedding=0.015,
)  # fmt: skip


def options(steps: int, embedding: float, output: float) -> TrainOptions:
    rates = {"learning_rate_embedding": embedding, "learning_rate_output": output}
    return OPTIONS.model_copy(update={"steps": steps, "validate_every": steps, **rates})


@dataclass(frozen=True)
class Case:
    """A base, how far the hidden concept is (see `hidden_concept`), and options that find it quickly."""

    save: Callable[[Path], Path]
    architecture: str
    far: float = 0.5
    other: float = 1.0
    options: TrainOptions = OPTIONS


CASES = {
    "SD 1": Case(save_tiny_base, "stable-diffusion"),
    "SD 2": Case(save_tiny_sd2, "stable-diffusion", options=options(120, 0.006, 0.05)),
    "SDXL": Case(save_shallow_sdxl, "sdxl"),
    "PixArt-Sigma": Case(save_tiny_pixart, "pixart-sigma", options=options(120, 0.0002, 0.1)),
    # Another embedding changes what all words of Anima say, and i* follows as a moving average.
    "Anima": Case(save_tiny_anima, "anima", 0.2, 2.0, options(200, 0.0005, 0.03)),
}


@dataclass(frozen=True, eq=False)
class Recovered:
    """What a build made of a planted concept.

    artifact: what it built. left: what is left of the loss against the hidden concept, as a part of what the
    plain word has, at noises that it was never trained on. gradients: the greatest of the first step, by the
    table of token embeddings ("table 0") and by the path of each layer.
    """

    artifact: Artifact
    left: float
    gradients: dict[str, float] = field(default_factory=dict)


def recover(base: Base, case: Case, folder: Path) -> Recovered:
    """Hide a concept behind the base's own objective, build "teddy" from one picture of noise, and compare.

    folder: where the picture goes.
    """
    base = replace(base, scorer=None)  # so that the last step is the one that is kept
    covariance = estimate_covariance(base, CAPTIONS * 10)
    hidden = hidden_concept(base, covariance.C, case.far, case.other)
    base.__dict__["objective"] = Planted(base, base.objective, hidden)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "1.png")
    sources = ConceptSources("teddy", "1.0.0", "teddy", (folder / "1.png",))
    with first_gradients() as seen:
        made = build_concept(base, covariance, sources, case.options, RenderOptions(), digest="ab" * 32)
    built = load_artifact(save_artifact(made))

    gate = Gate(bias=OPTIONS.bias, temperature=OPTIONS.temperature)
    composition = compose(
        parse_prompt("a photo of a teddy*"), {"teddy": Concept(built, "0" * 64, gate)}, base
    )
    recovered = pack(base, composition, {"teddy": built})
    plain = base.encode([base.tokenise(["a photo of a teddy"])])
    start = plain.with_states(plain.states @ base.bank.W.T)
    left = distance(base, recovered, hidden) / distance(base, start, hidden)
    return Recovered(built, left, _by_place(base, seen))


@dataclass(frozen=True, eq=False)
class Planted:
    """The base's own objective, with what a hidden concept answers for a target."""

    base: Base
    own: Any
    hidden: Conditioning

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    @torch.no_grad()
    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        noisy = self.own.add_noise(latents, noise, times)
        return self.base.denoise(noisy, times, self.hidden.repeated(len(latents)))


@torch.no_grad()
def hidden_concept(base: Base, C: Tensor, far: float, other: float) -> Conditioning:
    """ "a photo of a <hidden>", packed as Eq. 3 has it for one concept, in fp64. far: how far its embeddings
    are from the word's, in standard deviations of the table. other: the same of o*_V."""
    dice, W = torch.Generator().manual_seed(3), base.bank.W.double()
    row = base.tokenise(["a photo of a ", ConceptPiece("teddy")])
    (place,) = row.concept_positions
    own = []
    for table, ids, (at,) in zip(base.embedding_tables, row.ids, row.places[0], strict=True):
        spread = far * table.weight.std() * torch.randn(table.weight.shape[1], generator=dice)
        own.append(table.weight[ids[at]] + spread)
    start, encoded = base.encode([row]).states[0, place].double(), base.encode([row], {(0, 0): own})
    E, keys = encoded.states[0].double(), base.bank.key_columns
    o = W @ start
    o = torch.where(keys, o, o + other * o[~keys].std() * torch.randn(len(o), generator=dice))
    bias, temperature = (torch.tensor([number]).double() for number in (OPTIONS.bias, OPTIONS.temperature))
    there = torch.ones(len(E), 1) if encoded.mask is None else encoded.mask[0][:, None]
    rest, gate = parted(E, E[place][None], C, bias, temperature, there.double())
    h = rest @ W.T + gate * o
    return encoded.with_states(h[None].float())


@torch.no_grad()
def distance(base: Base, one: Conditioning, other: Conditioning) -> float:
    """The mean squared difference of what the denoiser answers at 16 noises."""
    dice = torch.Generator().manual_seed(9)
    x, t = torch.randn(16, 4, 8, 8, generator=dice), base.objective.draw_times(16, dice)
    with base.attached():
        one, other = (base.denoise(x, t, which.repeated(16)) for which in (one, other))
    return float((one - other).square().mean())


@contextmanager
def first_gradients() -> Iterator[dict[tuple[int, ...], list[Tensor]]]:
    """What the optimiser is given in its first step: gradients by their parameter's shape, in its order."""
    seen: dict[tuple[int, ...], list[Tensor]] = {}
    steps = 0

    def look(optimiser: torch.optim.Optimizer, *_: object) -> None:
        nonlocal steps
        steps += 1
        for group in optimiser.param_groups if steps == 1 else ():
            for parameter in group["params"]:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                seen.setdefault(tuple(parameter.shape), []).append(gradient.detach().clone())

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _by_place(base: Base, seen: dict[tuple[int, ...], list[Tensor]]) -> dict[str, float]:
    values = ~base.bank.key_columns
    (outputs,) = seen[(int(values.sum()),)]
    whole = torch.zeros(len(values)).masked_scatter(values, outputs)
    found = {}
    for number, table in enumerate(base.embedding_tables):
        found[f"table {number}"] = float(seen[(table.weight.shape[1],)].pop(0).abs().max())
    for layer in base.bank.layers:
        found[layer.path] = float(whole[layer.value_slice].abs().max())
    return found
