"""Training on a machine that is lent for minutes: it draws and encodes on that machine's cores, goes on from
the state that the last call left, and gives its state back in parts.

What travels there is the package and the state's parts; a call of it is

    python -m perfusion_registry.storybook2.training WORK lent --state STATE --out OUT --seconds 540

A call that finds WORK as an earlier one left it goes on from there and does not look at STATE.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import torch

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.training.drawings import HELD_BACK
from perfusion_registry.storybook2.training.painting import denoiser
from perfusion_registry.storybook2.training.plan import Plan, read_plan
from perfusion_registry.storybook2.training.producing import encode_shards
from perfusion_registry.storybook2.training.state import load_state, save_state
from perfusion_registry.storybook2.training.work import Work

_LEAST = 5.0
"""Seconds that a call trains even where fetching its state took the rest."""


def lent_plan(plan: Plan, *, cores: int, device: str, seconds: float) -> Plan:
    """The plan of a lent machine: every core but two draws ahead, the accelerator trains."""
    workers = max(1, cores - 2)
    machine = replace(plan.machine, device=device, threads=2, workers=workers, ahead=4 * workers)
    budgets = replace(plan.budgets, most_seconds=seconds, save_every=1e9, sheet_every=10**12)
    return replace(plan, machine=machine, budgets=budgets)


def lent(work: Work, *, state: Path | None, out: Path, seconds: float, reserve: float = 60.0) -> Path:
    """Train for `seconds` in all, `reserve` of them for giving the state back; the folder of its parts.

    state: the parts to begin from, where WORK has nothing of its own yet.
    """
    begun = time.monotonic()
    if not work.vae.exists():
        if state is None:
            raise PerfError("there is nothing to train on", where=str(work.root), hint="name --state")
        load_state(state, work)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    left = max(_LEAST, seconds - reserve - (time.monotonic() - begun))
    plan = lent_plan(read_plan(work), cores=os.cpu_count() or 1, device=device, seconds=left)
    encode_shards(work, [HELD_BACK], count=plan.budgets.shard, workers=1)
    denoiser(work, plan)
    save_state(work, out)
    return out
