"""A training as it goes on: the concept, its optimiser and generator, and their checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from perfusion_registry.build.checkpoint import CHECKPOINT_KEY, TrainingProgress
from perfusion_registry.build.tensorfile import parse_tensors, write_tensors
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.trainable import Trainable

_ADAM = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A concept as it was after `step` steps. tensors: its state by name, on the CPU."""

    step: int
    tensors: dict[str, Tensor]


@dataclass(eq=False)
class TrainState:
    """Everything that a training step changes.

    generator: a CPU generator that every random choice is drawn from, so that devices agree on the draws.

    The optimiser is Adam without weight decay: the paper of Perfusion names none, and decay would pull what
    starts at the supercategory's towards zero instead.
    """

    concept: Trainable
    optimiser: torch.optim.Adam
    generator: torch.Generator
    step: int = 0
    losses: list[float] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    @classmethod
    def begin(cls, concept: Trainable, generator: torch.Generator) -> TrainState:
        """A concept before its first step. generator: the one that it was begun with."""
        return cls(concept, torch.optim.Adam(concept.groups, foreach=False), generator)

    def snapshot(self) -> Snapshot:
        """The concept as it is now, copied to the CPU."""
        state = {name: tensor.detach().cpu().clone() for name, tensor in self.concept.state.items()}
        return Snapshot(self.step, state)

    def save(self, path: Path, identity: str) -> None:
        """Write a checkpoint, whole or not at all. identity: a digest of everything the training depends
        on."""
        tensors = {**self.concept.state, "generator": self.generator.get_state()}
        for name, parameter in self.concept.parameters.items():
            for key in _ADAM:
                if parameter in self.optimiser.state:
                    tensors[f"{name}.{key}"] = self.optimiser.state[parameter][key]
        for shot in self.snapshots:
            for name, tensor in shot.tensors.items():
                tensors[f"snapshot.{shot.step}.{name}"] = tensor
        progress = TrainingProgress(
            identity=identity,
            step=self.step,
            losses=self.losses,
            snapshots=[shot.step for shot in self.snapshots],
            threads=torch.get_num_threads(),
        )
        write_tensors(path, tensors, CHECKPOINT_KEY, progress.model_dump_json())

    def resume(self, path: Path, identity: str) -> bool:
        """Continue from a checkpoint of the same training; False, changing nothing, where there is none."""
        try:
            tensors, text = parse_tensors(path.read_bytes(), CHECKPOINT_KEY, str(path))
            progress = TrainingProgress.model_validate_json(text or "")
        except (OSError, PerfError, ValidationError):
            return False
        if progress.identity != identity:
            return False
        self.generator.set_state(tensors["generator"])
        for name, moved in self.concept.moving.items():
            self.concept.moving[name] = tensors[name].to(moved)
        for name, parameter in self.concept.parameters.items():
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
            state = {key[len(start) :]: value for key, value in tensors.items() if key.startswith(start)}
            self.snapshots.append(Snapshot(step, state))
        return True
