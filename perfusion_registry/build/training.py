"""The training loop: Eq. 3 in every layer, i* estimated online, and the masked diffusion loss (Section 4.4).

A recipe that asks for a personalised residual learns it in the same loop.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from perfusion_registry.base import block_widths
from perfusion_registry.build.epoch import TRAINER_EPOCH
from perfusion_registry.build.latents import Latents
from perfusion_registry.build.lock import Lock
from perfusion_registry.build.prompts import Prompts
from perfusion_registry.build.trainee import Trainee
from perfusion_registry.edit import Metric, packed
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.options import TrainOptions
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.base import Base

DECAY = 0.99
"""Of the moving average that estimates i* (Section 4.4)."""
CHECKPOINT_SECONDS = 10.0
HALF_SCALE = 4096.0
"""The loss is multiplied by it on its way back in fp16, where the mean's small gradients would vanish."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """Everything that a training needs and never changes.

    prompts: of `options.templates`. latents: of the concept's images. company: after these there may be
    pictures of the concept beside another thing, and their prompts; the row of the prompt of each.
    """

    base: Base
    metric: Metric
    lock: Lock
    prompts: Prompts
    latents: Latents
    options: TrainOptions
    company: tuple[int, ...] = ()

    def begin(self) -> Trainee:
        """The concept before its first step."""
        outputs = self.lock.outputs[self.lock.learned]
        widths = block_widths(self.base.residual_blocks) if self.options.residual_rank else {}
        return Trainee.begin(self.lock.embeddings, outputs, self.lock.encoding, widths, self.options)

    def packed(self, E: Tensor, target_input: Tensor, outputs: Tensor, places: Sequence[int] = ()) -> Tensor:
        """Eq. 3 with the training gate.

        E: (U, n, d). target_input: (d,), i*. outputs: (L,), the learned columns of o*. places: U, the
        concept's token in each prompt, none where no prompt calls it; Eq. 3 finds it by itself. Returns
        (U, n, D).
        """
        i = target_input[None]
        bias, temperature = i.new_tensor([self.options.bias]), i.new_tensor([self.options.temperature])
        o = self.lock.target_output(outputs)[None]  # (1, D)
        return packed(E, self.base.bank.W, i, self.metric.dual(i), o, bias, temperature)

    def drawn(self, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch of pictures and of prompts for them, by index, both (B,).

        The concept alone goes with any of the prompts for it, in company with its own only.
        """
        B, alone = self.options.batch, len(self.latents.mean) - len(self.company)
        pictures = torch.randint(alone, (B,), generator=dice)
        templates = torch.randint(len(self.options.templates), (B,), generator=dice)
        if not self.company:
            return pictures, templates
        accompanied = torch.rand(B, generator=dice) < self.options.company_share
        others = torch.randint(len(self.company), (B,), generator=dice)
        own = torch.tensor(self.company)[others]
        return torch.where(accompanied, alone + others, pictures), torch.where(accompanied, own, templates)

    def identity(self) -> str:
        """Hex sha256 of all of it, so that a checkpoint of another training is never continued."""
        digest = hashlib.sha256(f"{TRAINER_EPOCH} {self.options.model_dump_json()} {self.company}".encode())
        latents = (self.latents.mean, self.latents.std, self.latents.weight)
        rows = [row.ids for row in self.prompts.tokens]
        prompts = (torch.tensor(ids) for ids in zip(*rows, strict=True))  # (P, n) of each text encoder
        for tensor in (self.metric.C, self.lock.outputs, *prompts, *latents):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def train(
    lesson: Lesson,
    *,
    title: str = "training",
    checkpoint: Path | None = None,
    reporter: Reporter | None = None,
) -> Trainee:
    """Train for `options.steps` steps, with a snapshot every `validate_every` steps and at the end.

    checkpoint: a file that a killed training continues from, to the same bytes that it would have ended with.
    Raises PerfError when the loss stops being a number.
    """
    base, options = lesson.base, lesson.options
    trainee, identity = lesson.begin(), lesson.identity()
    resumed = checkpoint is not None and trainee.resume(checkpoint, identity)
    saved = time.monotonic()
    with (
        (reporter or Silent()).stage(title, options.steps) as stage,
        repeatable(base.device),
        base.attached([trainee.residual] if trainee.residual else [], everywhere=True),
    ):
        stage.advance(trainee.step, "resumed" if resumed else "")
        while trainee.step < options.steps:
            training_step(lesson, trainee)
            stage.advance(1, f"loss {_recent(trainee.losses):.4f}")
            last = trainee.step == options.steps
            if last or trainee.step % options.validate_every == 0:
                trainee.snapshots.append(trainee.snapshot())
            if checkpoint is not None and (last or time.monotonic() - saved >= CHECKPOINT_SECONDS):
                trainee.save(checkpoint, identity)
                saved = time.monotonic()
    return trainee


def training_step(lesson: Lesson, trainee: Trainee) -> float:
    """One step of the optimiser, with the bank and the residual attached to the base. Returns the loss."""
    loss = step_loss(lesson, trainee)
    value = loss.item()
    if not math.isfinite(value):
        options = lesson.options
        raise PerfError(
            f"The loss stopped being a number at step {trainee.step + 1}",
            where=f"learning rates {options.learning_rate_output} and {options.learning_rate_embedding}",
            hint="lower the learning rates in [train], or compute in float32",
        )
    trainee.optimiser.zero_grad(set_to_none=True)
    scale = HALF_SCALE if lesson.base.compute_dtype == torch.float16 else 1.0
    (loss * scale).backward()
    for parameter in trainee.parameters.values():
        if parameter.grad is not None:
            parameter.grad /= scale
    trainee.optimiser.step()
    trainee.step += 1
    trainee.losses.append(value)
    return value


def step_loss(lesson: Lesson, trainee: Trainee) -> Tensor:
    """Draw a batch, move i* towards the concept's encoding, and return the loss.

    As in Algorithm 1, i* moves before it is used, and no gradient flows to it.
    """
    base, latents, prompts = lesson.base, lesson.latents, lesson.prompts
    objective, dice = base.objective, trainee.generator
    pictures, templates = lesson.drawn(dice)
    pictures, B = pictures.to(base.device), len(pictures)
    shape = (B, *latents.mean.shape[1:])
    times = objective.draw_times(B, dice).to(base.device)
    z = latents.sample(pictures, torch.randn(shape, generator=dice).to(base.device))  # (B, c, h, w)
    noise = torch.randn(shape, generator=dice).to(base.device)

    unique, inverse = torch.unique(templates, return_inverse=True)  # each prompt is encoded once
    inverse = inverse.to(base.device)
    encoded, e = prompts.encode(base, unique.tolist(), trainee.embeddings)  # e: (U, d)
    e_concept = e.detach()[inverse].mean(0)
    trainee.target_input = DECAY * trainee.target_input + (1 - DECAY) * e_concept
    places = [prompts.positions[row] for row in unique.tolist()]
    h = lesson.packed(encoded.states, trainee.target_input, trainee.outputs, places)  # (U, n, D)
    batch = encoded.with_states(h).rows(inverse)
    answer = base.denoise(objective.add_noise(z, noise, times), times, batch)
    return masked_loss(answer, objective.target(z, noise, times), latents.weight[pictures])


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
