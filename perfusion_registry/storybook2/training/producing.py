"""Encoded shards as a training wants them: drawn and encoded in bursts, or by a process that works ahead."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from perfusion_registry.storybook2.training.drawings import check_epoch, draw_shard, drawn, read_drawing
from perfusion_registry.storybook2.training.encoding import encoded, write_encoded
from perfusion_registry.storybook2.training.latents import Encoded, read_encoded
from perfusion_registry.storybook2.training.linear import load
from perfusion_registry.storybook2.training.pause import is_paused, wait_while_paused
from perfusion_registry.storybook2.training.stopping import check
from perfusion_registry.storybook2.training.work import Work
from perfusion_registry.workers import block_sigint, exit_with_parent


def draw_shards(
    work: Work, folder: Path, numbers: Sequence[int], *, count: int, workers: int, size: int = 256
) -> None:
    """Draw the shards that `folder` lacks, with pictures of `size`, in `workers` processes."""
    check_epoch(folder)
    missing = [n for n in numbers if not (folder / f"{n:06d}").exists()]
    _in_processes(partial(_draw, work, folder, count, size), missing, workers)


def encode_shards(work: Work, numbers: Sequence[int], *, count: int, workers: int) -> None:
    """Draw and encode the shards that are missing, in `workers` processes; pictures are not kept."""
    check_epoch(work.latents)
    missing = [n for n in numbers if not (work.latents / f"{n:06d}").exists()]
    _in_processes(partial(encode_one, work, count), missing, workers)


def encode_one(work: Work, count: int, number: int) -> Path:
    """Draw, or read, and encode shard `number`, unless it is there; returns its folder."""
    target = work.latents / f"{number:06d}"
    if not target.exists():
        kept = work.drawings / f"{number:06d}"
        drawing = read_drawing(kept) if kept.exists() else drawn(number, count)
        encoder, tokenizer = load(work.encoder), CLIPTokenizer.from_pretrained(work.tokenizer)
        write_encoded(target, encoded(drawing, encoder, tokenizer))
    return target


def _draw(work: Work, folder: Path, count: int, size: int, number: int) -> None:
    wait_while_paused(work.pause)
    draw_shard(folder, number, count=count, size=size)


def _in_processes(act: Callable[[int], object], numbers: Sequence[int], workers: int) -> None:
    if not numbers:
        return
    if workers < 2 or len(numbers) < 2:
        for number in numbers:
            act(number)
        return
    context = multiprocessing.get_context("spawn")
    with (
        block_sigint(),
        ProcessPoolExecutor(min(workers, len(numbers)), context, initializer=_worker) as pool,
    ):
        list(pool.map(act, numbers))


def _worker() -> None:
    exit_with_parent()
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Bursts:
    """Shards on demand: the training stands still while `burst` of them are drawn and encoded."""

    work: Work
    count: int
    workers: int
    burst: int
    most: int

    def shard(self, number: int) -> Encoded:
        """The encoded shard of this number."""
        folder = self.work.latents / f"{number:06d}"
        if not folder.exists():
            wanted = range(number, min(self.most, number + self.burst))
            self.work.log(f"drawing and encoding shards {wanted[0]} to {wanted[-1]}")
            encode_shards(self.work, wanted, count=self.count, workers=self.workers)
        return read_encoded(folder)


@dataclass(frozen=True)
class Ahead:
    """Shards from processes that work ahead of the training. alive: raises where one of them has failed."""

    work: Work
    alive: Callable[[], None]
    poll: float = 0.2

    def shard(self, number: int) -> Encoded:
        """The encoded shard of this number, awaited if it is not there yet."""
        folder = self.work.latents / f"{number:06d}"
        while not folder.exists():
            check()
            self.alive()
            time.sleep(self.poll)
        return read_encoded(folder)


def work_ahead(work: Work, *, count: int, ahead: int, most: int, worker: int = 0, workers: int = 1) -> None:
    """Make the shards worker, worker + workers, ... below `most`, at most `ahead` more than the training says
    in `wanted.txt` that it draws from; ends when the process that started this one does."""
    parent = os.getppid()
    torch.set_num_threads(1)
    for number in range(worker, most, workers):
        while number >= wanted(work) + ahead or is_paused(work.pause):
            if os.getppid() != parent:
                return
            time.sleep(0.5)
        if os.getppid() != parent:
            return
        encode_one(work, count, number)


def want(work: Work, shards: int) -> None:
    """Say how many shards the training draws from now."""
    beside = work.root / "wanted.txt.partial"
    beside.write_text(str(shards))
    beside.replace(work.root / "wanted.txt")


def wanted(work: Work) -> int:
    """How many shards the training said it draws from."""
    path = work.root / "wanted.txt"
    return int(path.read_text()) if path.exists() else 0
