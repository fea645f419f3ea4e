"""The training loop of every method: batches of pictures and prompts, and the masked diffusion loss (Section
4.4 of Perfusion's paper)."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from perfusion_registry.base import Adaptation, Applied
from perfusion_registry.base.offloading import text_away
from perfusion_registry.build.checkpoint import checkpoint_seconds
from perfusion_registry.build.epoch import TRAINER_EPOCH
from perfusion_registry.build.latents import Latents
from perfusion_registry.build.memory_saving import MemorySaving
from perfusion_registry.build.state import TrainState
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.errors import PerfError
from perfusion_registry.memory import REFUSED, out_of_memory
from perfusion_registry.methods.calls import CallWords
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.trainable import MakeTrainable, Trainable
from perfusion_registry.recipe.options import PriorOptions, TrainingOptions
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Conditioning

SAVING_SHARE = 20
"""A checkpoint that takes long is written again only after so many times as long."""
HALF_SCALE = 4096.0
"""The loss is multiplied by it on its way back in fp16, where the mean's small gradients would vanish."""


@dataclass(frozen=True, eq=False)
class TrainInputs:
    """Everything that a training needs and never changes.

    word: the supercategory. metric: of the covariance; None for a method that needs none. prompts: of
    `options.templates`. latents: of the concept's images. make: begins to learn the concept. pairs: after
    these there may be pictures of the concept beside another thing, and their prompts; the row of the prompt
    of each. call: what a call of the concept becomes in prompts, where that is words. priors: behind
    all of these, how many pictures are the base's own, whose prompt is the last. captions: of each of the
    concept's images the row of its own prompt, None where any of the templates goes with it; repeats: how
    often it is shown while others are shown once. Both are empty where nothing is said of any.
    """

    base: Base
    word: str
    metric: CovarianceMetric | None
    prompts: Prompts
    latents: Latents
    options: TrainingOptions
    make: MakeTrainable
    pairs: tuple[int, ...] = ()
    call: CallWords | None = None
    priors: int = 0
    captions: tuple[int | None, ...] = ()
    repeats: tuple[int, ...] = ()

    @property
    def samples(self) -> int:
        """How many the denoiser is asked about in a step: with priors one for each of the concept's."""
        return self.options.batch * (2 if self.priors else 1)

    def begin(self) -> TrainState:
        """The concept before its first step."""
        generator = torch.Generator().manual_seed(self.options.seed)
        made = self.make(self.base, self.word, self.metric, self.options, generator)
        return TrainState.begin(made, generator)

    def drawn(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch of pictures and of prompts for them, by index, both (B,).

        The concept alone goes with its caption, else with any of the prompts for it; in a pair with its own
        prompt only. Behind the concept's are as many priors, where there are any.
        """
        B, alone = self.options.batch, len(self.latents.mean) - len(self.pairs) - self.priors
        shown = self._shown(alone)
        pictures = shown[torch.randint(len(shown), (B,), generator=generator)]
        templates = torch.randint(len(self.options.templates), (B,), generator=generator)
        if self.captions:
            rows = (self.captions[int(picture) % len(self.captions)] for picture in pictures)
            templates = torch.tensor(
                [old if row is None else row for row, old in zip(rows, templates.tolist(), strict=True)]
            )
        if self.pairs:
            paired = torch.rand(B, generator=generator) < self.options.pair_share
            others = torch.randint(len(self.pairs), (B,), generator=generator)
            own = torch.tensor(self.pairs)[others]
            pictures = torch.where(paired, alone + others, pictures)
            templates = torch.where(paired, own, templates)
        if not self.priors:
            return pictures, templates
        first, prompt = alone + len(self.pairs), len(self.prompts.tokens) - 1
        priors = first + torch.randint(self.priors, (B,), generator=generator)
        return torch.cat([pictures, priors]), torch.cat([templates, torch.full((B,), prompt)])

    def _shown(self, alone: int) -> Tensor:
        """The concept's pictures, by index, each as often as it is repeated. alone: their number: all images
        at each size, and all of these mirrored."""
        every = torch.arange(alone)
        if not self.repeats:
            return every
        return every.repeat_interleave(torch.tensor(self.repeats).repeat(alone // len(self.repeats)))

    def weights(self, B: int) -> Tensor | float:
        """What the loss of each of B samples counts, (B, 1, 1, 1): the mean of all is the mean of the
        concept's and, so many times, the mean of the priors'."""
        if not self.priors:
            return 1.0
        own = torch.full((B,), 2.0, device=self.base.device)
        assert isinstance(self.options, PriorOptions)
        own[B // 2 :] *= self.options.prior_weight
        return own[:, None, None, None]

    def identity(self, concept: Trainable) -> str:
        """Hex sha256 of all of it, so that a checkpoint of another training is never continued."""
        words, own = concept.identity()
        settings = f"{TRAINER_EPOCH} {words} {self.options.model_dump_json()} {self.pairs}"
        if self.captions:
            settings += f" {self.captions} {self.repeats}"
        digest = hashlib.sha256(settings.encode())
        latents = (self.latents.mean, self.latents.std, self.latents.weight, self.latents.sizes)
        rows = [row.ids for row in self.prompts.tokens]
        prompts = (torch.tensor(ids) for ids in zip(*rows, strict=True))  # (P, n) of each text encoder
        for tensor in (*own, *prompts, *latents):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def train(
    inputs: TrainInputs,
    *,
    title: str = "training",
    checkpoint: Path | None = None,
    timed: Callable[[int, float], None] | None = None,
    then: float = 0.0,
    reporter: Reporter | None = None,
) -> TrainState:
    """Train for `options.steps` steps, with a snapshot every `validate_every` steps and at the end.

    checkpoint: a file that a killed training continues from, to the same bytes that it would have ended with.
    timed: told how many steps were done now, and in how many seconds. then: what follows, as in `Reporter`.
    Raises PerfError when the loss stops being a number.
    """
    base, options = inputs.base, inputs.options
    state = inputs.begin()
    identity = inputs.identity(state.concept)
    residual = state.concept.factors(state.concept.parameters)
    changes = state.concept.changes(state.concept.parameters)
    adapters = Adaptation((Applied(changes, learning=True),)) if changes else None
    resumed = checkpoint is not None and state.resume(checkpoint, identity)
    if resumed and reporter is not None:
        reporter.note(f"{title} goes on after step {state.step} of {options.steps}, where it was interrupted")
    saved = begun = time.monotonic()
    first = state.step
    reads_text = state.concept.prepare(inputs.prompts)
    every = checkpoint_seconds()
    saving = MemorySaving(base, inputs.samples, title, reporter or Silent())
    text: AbstractContextManager[None] = nullcontext() if reads_text else text_away(base)
    with (
        (reporter or Silent()).stage(title, options.steps, then) as stage,
        repeatable(base.device),
        text,
        base.attached([residual] if residual else [], everywhere=True, adaptation=adapters),
        closing(saving),
    ):
        stage.advance(state.step, "resumed" if resumed else "")
        while state.step < options.steps:
            training_step(inputs, state, saving)
            stage.advance(1, f"loss {_recent(state.losses):.4f}")
            last = state.step == options.steps
            if last or state.step % options.validate_every == 0:
                state.snapshots.append(state.snapshot())
            if checkpoint is not None and (last or time.monotonic() - saved >= every):
                saving_since = time.monotonic()
                state.save(checkpoint, identity)
                saved = time.monotonic()
                every = max(checkpoint_seconds(), SAVING_SHARE * (saved - saving_since))
    if timed is not None:
        timed(state.step - first, time.monotonic() - begun)
    return state


def training_step(inputs: TrainInputs, state: TrainState, saving: MemorySaving | None = None) -> float:
    """One step of the optimiser, with the bank and the residual attached to the base. Returns the loss.

    saving: what is done about memory that does not suffice; None: nothing.
    """
    value = None
    while value is None:
        before = state.generator.get_state(), dict(state.concept.moving)
        try:
            value = _gradients(inputs, state, inputs.samples if saving is None else saving.part)
        except REFUSED as error:
            if saving is None or not out_of_memory(error) or saving.exhausted:
                raise
        if value is None:  # the same step again, with less at once
            assert saving is not None
            saving.tighten()
            state.generator.set_state(before[0])
            state.concept.moving.update(before[1])
    if state.concept.max_grad_norm:
        torch.nn.utils.clip_grad_norm_(state.concept.parameters.values(), state.concept.max_grad_norm)
    state.optimiser.step()
    state.step += 1
    state.losses.append(value)
    return value


def _gradients(inputs: TrainInputs, state: TrainState, part: int) -> float:
    """Draw a batch and leave its gradients in the parameters. part: samples that the denoiser is asked about
    at once. Returns the loss."""
    batch, scale = _Batch.draw(inputs, state), _scale(inputs.base)
    if part >= len(batch.times):
        loss = batch.loss(inputs.base)
        value = loss.item()
        _require_number(value, state)
        state.optimiser.zero_grad(set_to_none=True)
        (loss * scale).backward()
    else:
        states, value = batch.conditioning.states, 0.0
        held = states.detach().requires_grad_(states.requires_grad)
        state.optimiser.zero_grad(set_to_none=True)
        for start in range(0, len(batch.times), part):
            loss = batch.of(held, slice(start, start + part)).loss(inputs.base)
            loss = loss * (len(batch.times[start : start + part]) / len(batch.times))
            (loss * scale).backward()
            value += loss.item()
        _require_number(value, state)
        if held.grad is not None:
            states.backward(held.grad)
    for parameter in state.concept.parameters.values():
        if parameter.grad is not None:
            parameter.grad /= scale
    return value


def _scale(base: Base) -> float:
    return HALF_SCALE if base.compute_dtype == torch.float16 else 1.0


def _require_number(value: float, state: TrainState) -> None:
    if not math.isfinite(value):
        rates = {f"{group['lr']:g}": None for group in state.concept.groups}
        raise PerfError(
            f"The loss stopped being a number at step {state.step + 1}",
            where=f"learning rates {', '.join(rates)}",
            hint="lower the learning rates in [train], or compute in float32",
        )


@dataclass(frozen=True, eq=False)
class _Batch:
    """B samples of a step. noisy, wanted: (B, c, h, w). times: (B,). weight: (B, 1, h, w)."""

    noisy: Tensor
    times: Tensor
    wanted: Tensor
    weight: Tensor
    conditioning: Conditioning

    @classmethod
    def draw(cls, inputs: TrainInputs, state: TrainState) -> _Batch:
        """As the generator has it."""
        base, latents, prompts = inputs.base, inputs.latents, inputs.prompts
        objective, generator = base.objective, state.generator
        pictures, templates = inputs.drawn(generator)
        chosen, B = latents.at(pictures, base.device), len(pictures)
        shape = (B, *latents.mean.shape[1:])
        times = objective.draw_times(B, generator).to(base.device)
        z = chosen.sample(torch.randn(shape, generator=generator).to(base.device))
        noise = torch.randn(shape, generator=generator).to(base.device)

        unique, inverse = torch.unique(templates, return_inverse=True)  # each prompt is encoded once
        inverse = inverse.to(base.text_device)
        given = state.concept.condition(prompts, unique.tolist(), inverse).with_sizes(chosen.sizes)
        noisy, wanted = objective.add_noise(z, noise, times), objective.target(z, noise, times)
        return cls(noisy, times, wanted, chosen.weight * inputs.weights(B), given)

    def of(self, states: Tensor, rows: slice) -> _Batch:
        """Some of the samples, with other states."""
        given = self.conditioning.with_states(states).rows(rows)
        return _Batch(self.noisy[rows], self.times[rows], self.wanted[rows], self.weight[rows], given)

    def loss(self, base: Base) -> Tensor:
        """The mean over the samples; gradients flow."""
        answer = base.denoise(self.noisy, self.times, self.conditioning)
        return masked_loss(answer, self.wanted, self.weight)


def step_loss(inputs: TrainInputs, state: TrainState) -> Tensor:
    """Draw a batch and return its loss."""
    return _Batch.draw(inputs, state).loss(inputs.base)


def masked_loss(answer: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Mean of the squared error weighted by the mask. answer, wanted: (B, c, h, w). weight: (B, 1, h, w)."""
    return ((answer - wanted).square() * weight).mean()


def _recent(losses: Sequence[float]) -> float:
    """The mean of the last few losses: single ones jump with the timesteps drawn."""
    return sum(losses[-20:]) / len(losses[-20:])


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Ask for kernels that give the same bits every time.

    Where two prompts of a batch are the same, their gradients are added up; threads of a CPU would do it in
    the order in which they come.
    """
    variable, value = "CUBLAS_WORKSPACE_CONFIG", os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    if device.type == "cuda":
        os.environ[variable] = value or ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # for finding bugs; 6 % of a step
    try:
        with torch.backends.cudnn.flags(deterministic=True, benchmark=False):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        memory.fill_uninitialized_memory = filled
        if value is None:
            os.environ.pop(variable, None)
