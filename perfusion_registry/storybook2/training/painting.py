"""The stage that trains text encoder and denoiser, what is looked at meanwhile, and the folder that comes of
it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.beside import write_beside
from perfusion_registry.storybook2.training.assembly import drawn_by, pipeline, save_pipeline
from perfusion_registry.storybook2.training.averages import combination, exponent_of
from perfusion_registry.storybook2.training.denoiser import (
    SCHEDULER,
    TOKENS,
    DenoiserLearner,
    DenoiserShape,
    Model,
    averaged,
    held_back,
)
from perfusion_registry.storybook2.training.drawings import HELD_BACK
from perfusion_registry.storybook2.training.latents import Batch, Supply, gathered, read_encoded
from perfusion_registry.storybook2.training.loop import Hook, Progress, load
from perfusion_registry.storybook2.training.plan import Plan
from perfusion_registry.storybook2.training.producing import Ahead, Bursts, encode_shards, want
from perfusion_registry.storybook2.training.prompts import PROMPTS
from perfusion_registry.storybook2.training.sheet import save_sheet
from perfusion_registry.storybook2.training.stages import (
    best_decoder,
    falling,
    plateau,
    shape_of,
    tokenizer_of,
)
from perfusion_registry.storybook2.training.state import is_falling
from perfusion_registry.storybook2.training.work import PACKAGE, Work
from perfusion_registry.workers import block_sigint

MEASURED = 384
"""Held-back pages that the v error and the attention are measured on."""


@dataclass(frozen=True)
class Told:
    """A supply that tells the processes ahead of it how many shards the training draws from."""

    work: Work
    supply: Supply

    def batch(self, size: int, pages: int, rng: np.random.Generator) -> Batch:
        """`size` pages by chance, of those that a training has after `pages` pages."""
        want(self.work, self.supply.admission.shards(pages))
        return self.supply.batch(size, pages, rng)


def encode(work: Work, plan: Plan) -> None:
    """Encode the held-back shard and those that the denoiser begins with."""
    wanted = [HELD_BACK, *range(min(plan.admission.first, plan.admission.most))]
    encode_shards(work, wanted, count=plan.budgets.shard, workers=plan.machine.workers)


def denoiser(work: Work, plan: Plan) -> None:
    """Train text encoder and denoiser at the constant rate; nothing where their rate falls already and what
    it fell from was not carried here."""
    if is_falling(work, "denoiser"):
        work.log("denoiser: its rate falls already, from weights that are elsewhere (stage denoiser-fall)")
        return
    with _shards(work, plan) as pages:
        learner = new_learner(work, plan, pages)
        plateau(
            work, plan, "denoiser", learner, pages=plan.budgets.denoiser, hooks=hooks(work, plan, learner)
        )


def denoiser_fall(work: Work, plan: Plan) -> None:
    """Let the denoiser's rate fall from its last checkpoint, in a file of its own."""
    with _shards(work, plan) as supply:
        learner = new_learner(work, plan, supply)
        falling(
            work,
            plan,
            "denoiser",
            learner,
            pages=plan.budgets.denoiser_fall,
            hooks=hooks(work, plan, learner),
        )
        sheet(work, learner, "fall")


def new_learner(work: Work, plan: Plan, pages: Any) -> DenoiserLearner:
    """The denoiser of this folder, untrained."""
    shape = shape_of(work, plan)
    return DenoiserLearner(pages, shape, plan.denoiser, empty_caption(work), device=plan.machine.device)


def empty_caption(work: Work) -> Tensor:
    """The token ids (48,) of no caption at all."""
    ids: Tensor = tokenizer_of(work)(
        "", padding="max_length", max_length=TOKENS, return_tensors="pt"
    ).input_ids
    return ids[0]


@contextmanager
def _shards(work: Work, plan: Plan) -> Iterator[Supply | Told]:
    """Where the denoiser takes its pages from; ends the processes ahead of it with the block."""
    machine, budgets = plan.machine, plan.budgets
    if machine.ahead is None:
        bursts = Bursts(work, budgets.shard, machine.workers, machine.burst, plan.admission.most)
        yield Supply(bursts.shard, plan.admission)
        return
    command = [sys.executable, "-m", f"{PACKAGE}.storybook2.training", str(work.root), "produce"]
    command += ["--ahead", str(machine.ahead), "--workers", str(machine.workers), "--worker"]
    with block_sigint():  # the training is to end first, and then ends these
        processes = [
            subprocess.Popen([*command, str(k)], stdin=subprocess.DEVNULL) for k in range(machine.workers)
        ]

    def alive() -> None:
        for process in processes:
            if process.poll():
                raise PerfError(
                    f"a process that draws ahead has ended with {process.returncode}", where=str(work.root)
                )

    try:
        yield Told(work, Supply(Ahead(work, alive).shard, plan.admission))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def hooks(work: Work, plan: Plan, learner: DenoiserLearner) -> Sequence[Hook]:
    """What happens beside the denoiser's steps: measures, sheets and snapshots of the averages."""
    budgets = plan.budgets
    return (
        (budgets.measure_every, lambda progress: measured(work, learner, progress)),
        (budgets.sheet_every, lambda progress: sheet(work, learner, f"{progress.pages:08d}")),
        (budgets.snapshot_every, lambda progress: snapshot(work, learner, progress)),
    )


def measured(work: Work, learner: DenoiserLearner, progress: Progress) -> dict[str, float]:
    """The averaged model's v error and attention on held-back pages; a line in the log and in
    `measured.jsonl`."""
    model = _averaged(learner)
    pages = _held_back_pages(work)
    found = held_back(model, pages, learner.alphas.cpu())
    row = {"pages": progress.pages, **{name: round(value, 4) for name, value in found.items()}}
    work.log("held back " + "  ".join(f"{name} {value}" for name, value in row.items() if name != "pages"))
    with (work.root / "measured.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    return found


def sheet(
    work: Work, learner: DenoiserLearner, name: str, prompts: Sequence[str] = PROMPTS, *, steps: int = 20
) -> Path:
    """Draw prompts, by default the fixed ones, with the averaged model."""
    path = work.sheets / f"{name}.png"
    pipe = pipeline(best_decoder(work), _averaged(learner), tokenizer_of(work))
    save_sheet(drawn_by(pipe, list(prompts), steps=steps, seed=100), prompts, path)
    work.log(f"sheet {path.name}")
    return path


def sheet_of_checkpoint(work: Work, plan: Plan) -> Path:
    """Draw the fixed prompts with the averaged model of the last checkpoint."""
    learner = new_learner(work, plan, None)
    progress = load(work.checkpoint("denoiser"), learner)
    return sheet(work, learner, f"{progress.pages:08d}-now")


def snapshot(work: Work, learner: DenoiserLearner, progress: Progress) -> Path:
    """Keep both averages as they are, in fp16, to choose another length from later."""
    path = work.root / "snapshots" / f"{progress.pages:08d}.pt"
    path.parent.mkdir(exist_ok=True)
    saved = [
        {"values": {n: v.half() for n, v in a.values.items()}, "steps": a.steps, "exponent": a.exponent}
        for a in learner.averages
    ]
    beside = path.with_name(path.name + ".partial")
    torch.save(saved, beside)
    beside.replace(path)
    return path


def chosen(work: Work, *, deviation: float | None = None) -> Model:
    """The trained model: of the fall where there is one, else of the plateau.

    deviation: of the average's profile as a share of the training, combined from all snapshots; by default
    that of the two averages that are kept and the latest weights which errs least on held-back pages.
    """
    fall = work.checkpoint("denoiser-fall")
    path = fall if fall.exists() else work.checkpoint("denoiser")
    if not path.exists():
        raise PerfError("there is no denoiser yet", where=str(path), hint="run the stage denoiser")
    state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)["learner"]
    if deviation is None:
        return _erring_least(work, state)
    model = averaged(state)
    saved = [
        average
        for file in sorted((work.root / "snapshots").glob("*.pt"))
        for average in torch.load(file, weights_only=True, mmap=True)
        if average["steps"] > 0
    ]
    last = max(average["steps"] for average in state["averages"])
    saved = [*(a for a in saved if a["steps"] < last), *state["averages"]]
    shares = combination(
        [a["steps"] for a in saved], [a["exponent"] for a in saved], last, exponent_of(deviation)
    )
    for name, parameter in model.named_parameters():
        if name in saved[0]["values"]:
            mixed = sum(
                float(share) * a["values"][name].float() for share, a in zip(shares, saved, strict=True)
            )
            parameter.copy_(mixed)
    return model


def export(work: Work, plan: Plan, target: Path, *, deviation: float | None = None) -> None:
    """Write the diffusers folder in fp16, with everything beside it that is trained already."""
    from perfusion_registry.storybook2.training.reading import export_readers

    model = chosen(work, deviation=deviation)
    pipe = pipeline(best_decoder(work), model, tokenizer_of(work), sampler=plan.measure.sampler)
    save_pipeline(pipe, target)
    export_readers(work, target)
    write_beside(target)


def _erring_least(work: Work, state: dict[str, Any]) -> Model:
    """A longer average is behind weights whose rate falls; which one is best is not known beforehand."""
    alphas, pages = DDIMScheduler(**SCHEDULER).alphas_cumprod, _held_back_pages(work)
    models = {name: averaged(state, which=k) for name, k in (("longer", 0), ("shorter", 1), ("none", None))}
    errors = {name: held_back(model, pages, alphas)["v"] for name, model in models.items()}
    least = min(errors, key=lambda name: errors[name])
    told = "  ".join(f"{name} {error:.7f}" for name, error in errors.items())
    work.log(f"held back v by average: {told}; taking {least}")
    return models[least]


def _held_back_pages(work: Work) -> Batch:
    shard = read_encoded(work.latents / f"{HELD_BACK:06d}")
    rows = np.arange(min(MEASURED, len(shard.z)))
    return gathered([shard], rows, rows % shard.ids.shape[1])


def _averaged(learner: DenoiserLearner) -> Model:
    shape: DenoiserShape = learner.shape
    model = Model(shape)
    weights = {name: value.cpu() for name, value in learner.model.state_dict().items()}
    model.load_state_dict({**weights, **learner.averages[0].values})
    return model.eval().requires_grad_(False)
