"""How much memory a training step needs, computed at true shapes with tensors that have no numbers.

    python -m benchmarks.memory --out memory.md       # SD 1.5 and SDXL

The step is that of the library under PyTorch's `FakeTensorMode`; what every operation gives is counted for as
long as something holds it. What a kernel needs for itself, and what an allocator wastes, is not in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from benchmarks.without_numbers import LENGTH, Alive, Shape
from perfusion_registry.base import Base, Tokens
from perfusion_registry.base.layouts import LAYOUTS
from perfusion_registry.build.latents import Latents
from perfusion_registry.build.training import masked_loss
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.methods.embeddings import embedding_tensors
from perfusion_registry.methods.perfusion.key_lock import KeyLock
from perfusion_registry.methods.perfusion.options import TrainOptions
from perfusion_registry.methods.perfusion.training import OUTPUTS, PerfusionTrainable
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.residuals.tensors import residual_tensors
from perfusion_registry.recipe.options import TEMPLATES

GIB = 2**30
CALLED, PICTURES = 5, 10


@dataclass(frozen=True)
class Way:
    """How a step is made. frozen: the preset `low-memory`, without the text encoders. part: samples at once.
    prompts: how many are encoded, at most."""

    batch: int = 16
    checkpointing: bool = False
    frozen: bool = False
    residual: float = 0.0
    part: int | None = None
    prompts: int = len(TEMPLATES)

    @property
    def options(self) -> TrainOptions:
        return TrainOptions(
            batch=self.batch,
            templates=TEMPLATES[: self.prompts],
            residual_rank=self.residual,
            **({"learning_rate_embedding": 0.0} if self.frozen else {}),
        )


@dataclass(frozen=True)
class Needed:
    """Bytes. weights: of the base, its bank of K and V included, before a step. step: at most beside them."""

    weights: int
    step: int

    @property
    def total(self) -> int:
        return self.weights + self.step


def computed(shape: Shape, dtype: torch.dtype, way: Way) -> Needed:
    """What a step needs, the second one, which has the optimiser's averages."""
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, Alive() as alive:
        base = shape.made(dtype)
        _ = base.bank.W
        weights = alive.now
        learned = learner(base, way, fake)
        state = torch.optim.Adam(learned.concept.groups, foreach=False)
        if way.checkpointing:
            base.pipe.unet.enable_gradient_checkpointing()
            base.pipe.unet.train()
        if way.frozen:
            learned.concept.prepare(learned.prompts)
            weights -= _bytes(encoders_of(base))
        residual = learned.concept.residual
        with base.attached([residual] if residual else [], everywhere=True):
            step(base, learned, state, way)
            before = alive.now
            alive.peak = before
            step(base, learned, state, way)
        # PyTorch adds gradients up in place, but not without numbers: one of packed is too many.
        twice = 4 * (way.part or way.batch) * LENGTH * len(base.bank.W)
        return Needed(weights, alive.peak - before - twice + _learned_bytes(learned.concept))


@dataclass(frozen=True, eq=False)
class Learned:
    """What a step needs beside the base."""

    concept: PerfusionTrainable
    prompts: Prompts
    latents: Latents


def learner(base: Base, way: Way, fake: FakeTensorMode) -> Learned:
    """A concept before its first step, of tokens and pictures that only have shapes."""
    side, channels = base.pipe.unet.config.sample_size, base.pipe.unet.config.in_channels
    D, d = base.bank.W.shape
    encoders = len(base.embedding_tables)
    ids = (tuple(range(2, 2 + LENGTH)),) * encoders
    row = Tokens(
        ids, LENGTH, ("",) * LENGTH, (None,) * LENGTH, (CALLED,), ((CALLED,),), (((CALLED,),) * encoders,)
    )
    with _real():  # which columns are learned is a number, and no shape
        learned = torch.ones(D, dtype=torch.bool)
        for layer in base.bank.layers:
            learned[layer.key_slice] = False
        starts = tuple(torch.zeros(table.embedding_dim) for table in base.embedding_tables)
        lock = KeyLock(starts, torch.zeros(d), torch.zeros(D), learned)
        metric = CovarianceMetric(torch.eye(d, dtype=torch.float64))
        real = PerfusionTrainable(base, lock, metric, way.options, torch.Generator().manual_seed(0))
    concept = _without_numbers(real, fake)
    shape = (PICTURES, channels, side, side)
    sizes = torch.full((PICTURES, 6), 8.0 * side)
    latents = Latents(torch.rand(shape), torch.rand(shape), torch.ones(PICTURES, 1, side, side), sizes)
    return Learned(concept, Prompts((row,) * way.prompts), latents)


def step(base: Base, learned: Learned, optimiser: torch.optim.Optimizer, way: Way) -> None:
    """As `build.training` makes it, without looking at any number."""
    B, objective = way.batch, base.objective
    chosen, unique = learned.latents.at(torch.arange(B) % PICTURES, base.device), min(way.prompts, B)
    times = torch.zeros(B, dtype=torch.long)
    z = chosen.sample(torch.rand(chosen.mean.shape))
    noise = torch.rand(z.shape)
    given = learned.concept.condition(learned.prompts, range(unique), torch.arange(B) % unique)
    given = given.with_sizes(chosen.sizes)
    noisy, wanted = objective.add_noise(z, noise, times), objective.target(z, noise, times)
    weight, part = chosen.weight, way.part or B
    optimiser.zero_grad(set_to_none=True)
    held = given.states.detach().requires_grad_(given.states.requires_grad) if part < B else given.states
    for start in list(range(0, B, part))[:2]:  # all others are as the second
        rows = slice(start, start + part)
        answer = base.denoise(noisy[rows], times[rows], given.with_states(held).rows(rows))
        masked_loss(answer, wanted[rows], weight[rows]).backward()
        del answer
    if held is not given.states and held.grad is not None:
        given.states.backward(held.grad)
    optimiser.step()


def _without_numbers(concept: PerfusionTrainable, fake: FakeTensorMode) -> PerfusionTrainable:
    """The same with parameters and averages that only have shapes."""

    def plain(tensor: Tensor) -> Tensor:
        return fake.from_tensor(tensor.detach()).requires_grad_(tensor.requires_grad)

    frozen = [name for name in concept.moving if name.startswith("embedding")]
    concept.embeddings = tuple(plain(one) for one in concept.embeddings)
    concept.outputs = plain(concept.outputs)
    concept.residual = {path: (plain(a), plain(b)) for path, (a, b) in concept.residual.items()}
    own = embedding_tensors(concept.embeddings)
    concept.parameters = {
        **({} if frozen else own),
        OUTPUTS: concept.outputs,
        **residual_tensors(concept.residual),
    }
    i = {name: plain(tensor) for name, tensor in concept.moving.items() if name not in frozen}
    concept.moving = {**i, **(own if frozen else {})}
    return concept


def encoders_of(base: Base) -> list[nn.Module]:
    """The text encoders, and the pipeline's where they are others."""
    named = [part for name, part in base.pipe.components.items() if name.startswith("text_encoder")]
    return [*base.text_models.values(), *named]


def _bytes(modules: Sequence[nn.Module]) -> int:
    """Of all tensors of several modules, each once."""
    every = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
    tensors = {id(tensor): tensor for tensor in every}.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _learned_bytes(concept: PerfusionTrainable) -> int:
    """Of what is learned and of Adam's two averages of it, which stay from step to step."""
    return sum(3 * 4 * tensor.numel() for tensor in concept.parameters.values())


@contextmanager
def _real() -> Iterator[None]:
    """Within it tensors have numbers, whatever mode is on."""
    with unset_fake_temporarily():
        yield


SHAPES = {"SD 1.5": LAYOUTS[1].folder, "SDXL": LAYOUTS[3].folder}
WAYS = {
    "as it is": Way(),
    "gradient checkpointing": Way(checkpointing=True),
    "and single samples": Way(checkpointing=True, part=1),
    "`low-memory`": Way(frozen=True),
    "`low-memory`, checkpointing": Way(frozen=True, checkpointing=True),
    "`low-memory`, checkpointing, single samples": Way(frozen=True, checkpointing=True, part=1),
}


def table() -> str:
    """Markdown: GiB of weights, of a step beside them, and together."""
    lines = ["| bf16, batch 16 | weights | a step | together |", "|---|---|---|---|"]
    for name, folder in SHAPES.items():
        for how, way in WAYS.items():
            found = computed(Shape.of(folder), torch.bfloat16, way)
            cells = " | ".join(f"{size / GIB:.1f}" for size in (found.weights, found.step, found.total))
            lines.append(f"| {name}, {how} | {cells} |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the table here")
    arguments = parser.parse_args()
    found = table()
    if arguments.out:
        arguments.out.write_text(found, "utf-8")


if __name__ == "__main__":
    main()
