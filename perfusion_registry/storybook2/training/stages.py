"""The stages that make pages and the autoencoder; each goes on where it was stopped, and is done when its
result is there. The networks that read pages are in `reading.py`, the one that draws them in `painting.py`.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from transformers import CLIPTokenizer

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.training.autoencoder import (
    AutoencoderLearner,
    AutoencoderPlan,
    drawn_pages,
    loaded,
    psnr,
)
from perfusion_registry.storybook2.training.denoiser import DenoiserShape
from perfusion_registry.storybook2.training.drawings import HELD_BACK
from perfusion_registry.storybook2.training.linear import LinearEncoder, fit, save
from perfusion_registry.storybook2.training.linear import load as load_encoder
from perfusion_registry.storybook2.training.loop import (
    Hook,
    Learner,
    Progress,
    Schedule,
    Watch,
    load,
    train,
)
from perfusion_registry.storybook2.training.plan import Plan
from perfusion_registry.storybook2.training.producing import draw_shards
from perfusion_registry.storybook2.training.state import begin_from, begun_at
from perfusion_registry.storybook2.training.work import Work

FITTED = 600
"""Pages, at least, among which the encoder's components are found."""
SAMPLE = 256
"""Pages that the autoencoder's error is measured on."""
WARMUP = 50
"""Steps of the warm-up."""


def watch(work: Work, plan: Plan, hooks: Sequence[Hook] = ()) -> Watch:
    """How a stage of this folder reports, saves and pauses."""
    budgets = plan.budgets
    most = math.inf if budgets.most_seconds is None else budgets.most_seconds
    return Watch(budgets.save_every, budgets.report_every, work.log, work.pause, hooks, most)


def pictured(plan: Plan) -> list[int]:
    """The numbers of the shards that keep their pictures, to learn from."""
    return list(range(plan.budgets.pictured))


def held_back(plan: Plan) -> list[int]:
    """The numbers of the shards for measuring."""
    return list(range(HELD_BACK, HELD_BACK + plan.budgets.held_back))


def vocabulary(work: Work, plan: Plan) -> None:
    """Take the package's tokenizer, which is fixed (`vocabulary.py` made it)."""
    if not work.tokenizer.exists():
        beside = work.tokenizer.with_name("tokenizer.partial")
        with as_file(files("perfusion_registry.storybook2") / "tokenizer") as folder:
            shutil.copytree(folder, beside, dirs_exist_ok=True)
        beside.rename(work.tokenizer)


def draw(work: Work, plan: Plan) -> None:
    """Draw the shards that keep their pictures, the one for measuring first."""
    draw_shards(
        work,
        work.drawings,
        [*held_back(plan), *pictured(plan)],
        count=plan.budgets.shard,
        workers=plan.machine.workers,
    )


def tokenizer_of(work: Work) -> CLIPTokenizer:
    """The tokenizer."""
    if not work.tokenizer.exists():
        raise PerfError(
            "there is no tokenizer yet", where=str(work.tokenizer), hint="run the stage vocabulary"
        )
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(work.tokenizer)
    return tokenizer


def shape_of(work: Work, plan: Plan) -> DenoiserShape:
    """The sizes of the denoiser and the text encoder for this folder's tokenizer and autoencoder."""
    tokenizer = tokenizer_of(work)
    return DenoiserShape(
        vocabulary=len(tokenizer),
        start=tokenizer.bos_token_id,
        end=tokenizer.eos_token_id,
        channels=plan.autoencoder.channels,
        widths=plan.denoiser.widths,
        heads=plan.denoiser.heads,
    )


def images_of(work: Work, numbers: Sequence[int]) -> list[NDArray[np.uint8]]:
    """The pictures (n, 256, 256, 3) of shards, mapped; of those only that are drawn already."""
    paths = [work.drawings / f"{number:06d}" / "images.npy" for number in numbers]
    found: list[NDArray[np.uint8]] = [np.load(path, mmap_mode="r") for path in paths if path.exists()]
    if not found:
        raise PerfError("no pages are drawn yet", where=str(work.drawings), hint="run the stage draw")
    return found


def train_and_fall(
    work: Work,
    plan: Plan,
    name: str,
    learner: Callable[[], Learner],
    *,
    pages: int,
    fall: int,
    hooks: Sequence[Hook] = (),
) -> Learner:
    """Train a stage at the constant rate to `pages`, then let the rate fall over `fall` pages more, in a file
    of its own; the trained learner. learner: makes it, untrained."""
    if not begin_from(work, f"{name}-fall", learner()) and not work.checkpoint(f"{name}-fall").exists():
        plateau(work, plan, name, learner(), pages=pages, hooks=hooks)
    return falling(work, plan, name, learner(), pages=fall, hooks=hooks)


def plateau(
    work: Work, plan: Plan, name: str, learner: Learner, *, pages: int, hooks: Sequence[Hook] = ()
) -> Progress:
    """Train a stage at the constant rate until it has seen `pages`; it begins with the weights that were
    carried here, where there are any."""
    begin_from(work, name, learner)
    schedule = Schedule(warmup=WARMUP * learner.batch)
    return train(
        name,
        learner,
        work.checkpoint(name),
        pages=pages,
        schedule=schedule,
        watch=watch(work, plan, hooks),
    )


def falling(
    work: Work, plan: Plan, name: str, learner: Learner, *, pages: int, hooks: Sequence[Hook] = ()
) -> Learner:
    """Let the rate of a stage fall over `pages` pages from its last checkpoint, in a file of its own; the
    learner."""
    source, target = work.checkpoint(name), work.checkpoint(f"{name}-fall")
    note = begun_at(work, f"{name}-fall")
    if not begin_from(work, f"{name}-fall", learner) and not target.exists():
        begin_from(work, name, learner)
        if not source.exists():
            raise PerfError("there is nothing to let fall", where=str(source), hint=f"run the stage {name}")
        note.write_text(str(load(source, learner).pages))
        beside = target.with_name(target.name + ".partial")
        shutil.copyfile(source, beside)
        beside.replace(target)
    begun = int(note.read_text())
    schedule = Schedule(warmup=WARMUP * learner.batch, fall_from=begun, fall=pages)
    train(
        f"{name} fall",
        learner,
        target,
        pages=begun + pages,
        schedule=schedule,
        watch=watch(work, plan, hooks),
    )
    return learner


def linear_encoder(work: Work, plan: Plan) -> LinearEncoder:
    """The transform that all latents are made by; found among the first pages, once and for all."""
    if not work.encoder.exists():
        shards = images_of(work, pictured(plan))
        pages = np.concatenate([shard[: math.ceil(FITTED / len(shards))] for shard in shards])
        encoder = fit(pages, plan.autoencoder.widths, plan.autoencoder.channels)
        save(encoder, work.encoder)
        work.log(f"encoder: {plan.autoencoder.channels} components of {len(pages)} pages")
    return load_encoder(work.encoder)


def autoencoder(work: Work, plan: Plan, *, name: str = "autoencoder", target: Path | None = None) -> None:
    """Find the encoder, train a decoder, and write both as a diffusers folder. name: of its checkpoints.
    target: the folder, `vae` of the work folder by default."""
    target = work.vae if target is None else target
    if (target / "config.json").exists():
        return

    def new() -> AutoencoderLearner:
        encoder, device = linear_encoder(work, plan), plan.machine.device
        examples = drawn_pages(images_of(work, pictured(plan)), encoder, plan.autoencoder, device=device)
        return AutoencoderLearner(examples, encoder, plan.autoencoder, device=device)

    learner = train_and_fall(
        work,
        plan,
        name,
        new,
        pages=plan.budgets.autoencoder,
        fall=plan.budgets.autoencoder_fall,
        hooks=[(2000, lambda progress: _tell_error(work, plan, name))],
    )
    assert isinstance(learner, AutoencoderLearner)
    save_autoencoder(work, plan, name, learner.finished().cpu(), target)


def chosen_autoencoder(work: Work) -> AutoencoderKL:
    """The autoencoder that everything is encoded with, in fp32."""
    if not (work.vae / "config.json").exists():
        raise PerfError("there is no autoencoder yet", where=str(work.vae), hint="run the stage autoencoder")
    vae: AutoencoderKL = AutoencoderKL.from_pretrained(work.vae)
    return vae.eval().requires_grad_(False)


def best_decoder(work: Work) -> AutoencoderKL:
    """The autoencoder with the decoder that was trained longest."""
    later = work.root / "vae-decoder"
    if not (later / "config.json").exists():
        return chosen_autoencoder(work)
    vae: AutoencoderKL = AutoencoderKL.from_pretrained(later)
    return vae.eval().requires_grad_(False)


def save_autoencoder(work: Work, plan: Plan, name: str, vae: AutoencoderKL, folder: Path) -> None:
    """Write a trained autoencoder as a diffusers folder, and log how well it gives pages back."""
    found = psnr(vae, np.array(images_of(work, held_back(plan))[0][:SAMPLE]))
    work.log(f"{name}: {found:.2f} dB on pages that it never saw, after the fall")
    beside = folder.with_name(folder.name + ".partial")
    vae.save_pretrained(beside)
    beside.rename(folder)


def _tell_error(work: Work, plan: Plan, name: str) -> None:
    """Log the error of the last checkpoint; it lags behind by what was not saved yet."""
    path = work.checkpoint(name)
    if path.exists():
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        vae = loaded(state["learner"], AutoencoderPlan())
        found = psnr(vae, np.array(images_of(work, held_back(plan))[0][:48]))
        pages = state["progress"]["pages"]
        work.log(f"{name}: {found:.2f} dB on 48 pages that it never saw, at the full rate after {pages}")
