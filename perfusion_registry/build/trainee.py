"""The concept while it is learned: its parameters, optimiser, moving average and dice, and their
checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from perfusion_registry.build.tensorfile import parse_tensors, write_tensors
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.embeddings import embedding_tensors, embeddings_of
from perfusion_registry.methods.perfusion.options import TrainOptions
from perfusion_registry.methods.residuals.tensors import residual_of, residual_tensors

if TYPE_CHECKING:
    from perfusion_registry.base import Factors

_KEY = "concept_checkpoint"
_ADAM = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A concept as it was after `step` steps, in fp32.

    embeddings: (d_token,) of each text encoder. outputs: (L,), the learned columns of o*, in bank order.
    target_input: (d,), i*. residual: by transformer block, A (r, m) and B (m', r); empty where none is
    learned.
    """

    step: int
    embeddings: tuple[Tensor, ...]
    outputs: Tensor
    target_input: Tensor
    residual: Factors


class _Progress(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str
    step: int
    losses: list[float]
    snapshots: list[int]


@dataclass(eq=False)
class Trainee:
    """Everything that a training step changes.

    embeddings: (d_token,) of each text encoder, outputs: (L,) and residual: by transformer block, A (r, m)
    and B (m', r), the learned parameters. target_input: (d,), the moving average i*.
    generator: a CPU generator that every random choice is drawn from, so that devices agree on the dice.

    The optimiser is Adam without weight decay: the paper names none, and decay would pull o* towards zero
    rather than towards the supercategory's output, from which it starts.
    """

    embeddings: tuple[Tensor, ...]
    outputs: Tensor
    target_input: Tensor
    residual: Factors
    optimiser: torch.optim.Adam
    generator: torch.Generator
    step: int = 0
    losses: list[float] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        embeddings: Sequence[Tensor],
        outputs: Tensor,
        target_input: Tensor,
        widths: Mapping[str, tuple[int, int]],
        options: TrainOptions,
    ) -> Trainee:
        """Start from the supercategory's embeddings, outputs (L,) and encoding (d,).

        widths: what each transformer block's output projection writes and reads, (m', m), by path. A residual
        starts at zero, with A drawn and B zero, so that the first step is that of the base itself.
        """
        dice = torch.Generator().manual_seed(options.seed)
        embeddings = tuple(start.detach().float().clone().requires_grad_() for start in embeddings)
        outputs = outputs.detach().float().clone().requires_grad_()
        groups = [
            {"params": [*embeddings], "lr": options.learning_rate_embedding},
            {"params": [outputs], "lr": options.learning_rate_output},
        ]
        residual = {}
        if options.residual_rank:
            for path, (out, into) in widths.items():
                rank = max(1, round(options.residual_rank * out))
                down = (torch.randn(rank, into, generator=dice) / into**0.5).to(outputs.device)
                up = torch.zeros(out, rank, device=outputs.device)
                residual[path] = (down.requires_grad_(), up.requires_grad_())
            learned = [factor for factors in residual.values() for factor in factors]
            groups.append({"params": learned, "lr": options.learning_rate_residual})
        return cls(
            embeddings,
            outputs,
            target_input.detach().float().clone(),
            residual,
            torch.optim.Adam(groups, foreach=False),
            dice,
        )

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What the optimiser changes, by name."""
        named = embedding_tensors(self.embeddings) | {"outputs": self.outputs}
        return named | residual_tensors(self.residual)

    def snapshot(self) -> Snapshot:
        """The concept as it is now, copied to the CPU."""
        outputs, target_input, *embeddings = (
            tensor.detach().cpu().clone() for tensor in (self.outputs, self.target_input, *self.embeddings)
        )
        residual = {
            path: (down.detach().cpu().clone(), up.detach().cpu().clone())
            for path, (down, up) in self.residual.items()
        }
        return Snapshot(self.step, tuple(embeddings), outputs, target_input, residual)

    def save(self, path: Path, identity: str) -> None:
        """Write a checkpoint, whole or not at all. identity: a digest of everything the training depends
        on."""
        tensors = {"target_input": self.target_input, "generator": self.generator.get_state()}
        for name, parameter in self.parameters.items():
            tensors[name] = parameter
            for key in _ADAM:
                if parameter in self.optimiser.state:
                    tensors[f"{name}.{key}"] = self.optimiser.state[parameter][key]
        for shot in self.snapshots:
            named = {"outputs": shot.outputs, "target_input": shot.target_input}
            named |= embedding_tensors(shot.embeddings) | residual_tensors(shot.residual)
            tensors |= {f"snapshot.{shot.step}.{name}": tensor for name, tensor in named.items()}
        progress = _Progress(
            identity=identity,
            step=self.step,
            losses=self.losses,
            snapshots=[shot.step for shot in self.snapshots],
        )
        write_tensors(path, tensors, _KEY, progress.model_dump_json())

    def resume(self, path: Path, identity: str) -> bool:
        """Continue from a checkpoint of the same training; False, changing nothing, where there is none."""
        try:
            tensors, text = parse_tensors(path.read_bytes(), _KEY, str(path))
            progress = _Progress.model_validate_json(text or "")
        except (OSError, PerfError, ValidationError):
            return False
        if progress.identity != identity:
            return False
        self.generator.set_state(tensors["generator"])
        self.target_input = tensors["target_input"].to(self.target_input)
        for name, parameter in self.parameters.items():
            with torch.no_grad():
                parameter.copy_(tensors[name])
            if progress.step:
                self.optimiser.state[parameter] = {
                    key: tensors[f"{name}.{key}"].to("cpu" if key == "step" else parameter.device)
                    for key in _ADAM
                }
        self.step, self.losses = progress.step, list(progress.losses)
        self.snapshots = []
        for step in progress.snapshots:
            start = f"snapshot.{step}."
            of = {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}
            named = embeddings_of(of), of["outputs"], of["target_input"]
            self.snapshots.append(Snapshot(step, *named, residual_of(of)))
        return True
