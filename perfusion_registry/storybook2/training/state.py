"""The state of an unfinished training in one file, to carry to another machine in parts: the averaged weights
in fp16, and whatever else is trained already. Optimisers start anew from it."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import torch

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.training.denoiser import DenoiserLearner
from perfusion_registry.storybook2.training.loop import Progress, save
from perfusion_registry.storybook2.training.parts import join, split
from perfusion_registry.storybook2.training.plan import Plan, read_plan
from perfusion_registry.storybook2.training.work import Work

_FILES = ("plan.json", "recogniser.safetensors", "measured.jsonl")
_FOLDERS = ("tokenizer", "encoder", "vae", "vae-decoder", "clip", "segmenter")
_ARCHIVE = "storybook2.tar"
_DENOISER = "denoiser-fp16.pt"


def save_state(work: Work, target: Path) -> list[Path]:
    """Write the state as parts into the folder `target`; returns them."""
    with tempfile.TemporaryDirectory(dir=work.root) as folder:
        archive = Path(folder) / _ARCHIVE
        with tarfile.open(archive, "w") as tar:
            for name in (*_FILES, *_FOLDERS):
                if (work.root / name).exists():
                    tar.add(work.root / name, name)
            checkpoint = work.checkpoint("denoiser")
            if checkpoint.exists():
                small = Path(folder) / _DENOISER
                _shrink(checkpoint, small)
                tar.add(small, _DENOISER)
        return split(archive, target)


def load_state(source: Path, work: Work) -> Plan:
    """Bring the state of `save_state` into a work folder that has no training of its own yet; its plan."""
    if work.checkpoint("denoiser").exists():
        raise PerfError(
            "this work folder already has a denoiser", where=str(work.root), hint="name an empty folder"
        )
    work.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work.root) as folder:
        archive = join(source, Path(folder))
        with tarfile.open(archive) as tar:
            tar.extractall(Path(folder) / "state", filter="data")
        for item in (Path(folder) / "state").iterdir():
            target = work.root / item.name
            if target.is_dir():
                shutil.rmtree(target)
            item.replace(target)
    return read_plan(work)


def begin_from(work: Work, learner: DenoiserLearner) -> bool:
    """Make the denoiser's checkpoint from the weights that `load_state` brought; False where there are none,
    or a checkpoint is there already."""
    source, target = work.root / _DENOISER, work.checkpoint("denoiser")
    if target.exists() or not source.exists():
        return False
    saved = torch.load(source, weights_only=True, map_location="cpu")
    weights = {n: v.float() if v.is_floating_point() else v for n, v in saved["weights"].items()}
    learner.model.load_state_dict(weights)
    for average in learner.averages:
        for name, value in average.values.items():
            value.copy_(weights[name])
        average.steps = saved["progress"]["step"]
    save(target, learner, Progress(**saved["progress"]))
    return True


def _shrink(checkpoint: Path, target: Path) -> None:
    saved = torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)
    learner = saved["learner"]
    weights = {**learner["weights"], **learner["averages"][0]["values"]}
    small = {n: v.half() if v.is_floating_point() else v for n, v in weights.items()}
    progress = json.loads(json.dumps(saved["progress"]))
    torch.save({"weights": small, "progress": progress}, target)
