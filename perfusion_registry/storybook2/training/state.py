"""The state of an unfinished training in one file, to carry to another machine in parts: what is trained
already, and in fp16 the weights of what is half trained, averaged where they are. Optimisers start anew from
it, and a rate that had begun to fall stands where the fall began."""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import torch

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.training.loop import Learner, Progress, save
from perfusion_registry.storybook2.training.parts import join, split
from perfusion_registry.storybook2.training.plan import Plan, read_plan
from perfusion_registry.storybook2.training.work import Work

_FILES = ("plan.json", "recogniser.safetensors", "measured.jsonl")
_FOLDERS = ("tokenizer", "encoder", "vae", "vae-decoder", "clip", "segmenter")
_ARCHIVE = "storybook2.tar.gz"
_STAGES = {
    "autoencoder": "vae",
    "recogniser": "recogniser.safetensors",
    "clip": "clip",
    "segmenter": "segmenter",
    "denoiser": None,
}
"""Networks that may be half trained, and what there is of each when it is done; of the denoiser, nothing.
Of one whose rate falls already, that is carried."""


def save_state(work: Work, target: Path) -> list[Path]:
    """Write the state as parts into the folder `target`; returns them."""
    with tempfile.TemporaryDirectory(dir=work.root) as folder:
        archive = Path(folder) / _ARCHIVE
        with tarfile.open(archive, "w:gz") as tar:
            for name in (*_FILES, *_FOLDERS):
                if (work.root / name).exists():
                    tar.add(work.root / name, name)
            for stage, result in _STAGES.items():
                if result is not None and (work.root / result).exists():
                    continue
                fall = f"{stage}-fall"
                if any(path.exists() for path in (work.checkpoint(fall), _small(work.root, fall))):
                    stage = fall
                    note = begun_at(work, fall)
                    tar.add(note, note.name)
                checkpoint = work.checkpoint(stage)
                small = _small(work.root, stage)  # brought from elsewhere, perhaps not gone on with yet
                if checkpoint.exists():
                    small = _small(Path(folder), stage)
                    _shrink(checkpoint, small, falling=stage == fall)
                if small.exists():
                    tar.add(small, small.name)
        return split(archive, target)


def load_state(source: Path, work: Work) -> Plan:
    """Bring the state of `save_state` into a work folder that has no training of its own yet; its plan."""
    if any(work.checkpoint(stage).exists() for stage in ("denoiser", "denoiser-fall")):
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


def begin_from(work: Work, name: str, learner: Learner) -> bool:
    """Make a stage's checkpoint from the weights that `load_state` brought; False where there are none, or a
    checkpoint is there already. The learner may be left as the checkpoint is."""
    source, target = _small(work.root, name), work.checkpoint(name)
    if target.exists() or not source.exists():
        return False
    saved = torch.load(source, weights_only=True, map_location="cpu")
    weights = {n: v.float() if v.is_floating_point() else v for n, v in saved["weights"].items()}
    state = learner.state_dict()
    state["weights"] = weights
    for average in state.get("averages", ()):
        average["values"] = {name: weights[name] for name in average["values"]}
        average["steps"] = saved["progress"]["step"]
    learner.load_state_dict(state)
    save(target, learner, Progress(**saved["progress"]))
    return True


def begun_at(work: Work, fall: str) -> Path:
    """The file that says after how many pages the fall of that name began."""
    return work.checkpoint(fall).with_suffix(".from")


def is_falling(work: Work, stage: str) -> bool:
    """Whether a stage's fall is here, and nothing by which its training at the constant rate could go on."""
    here, fall = (
        any(path.exists() for path in (work.checkpoint(name), _small(work.root, name)))
        for name in (stage, f"{stage}-fall")
    )
    return fall and not here


def _small(folder: Path, stage: str) -> Path:
    """Where a stage's weights lie that are to be carried, or were."""
    return folder / f"{stage}-fp16.pt"


def _shrink(checkpoint: Path, target: Path, *, falling: bool) -> None:
    """Write what goes to another machine: the longer average, which errs least at a constant rate; of a rate
    that falls, the weights themselves, since that average is behind them."""
    saved = torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)
    learner = saved["learner"]
    averages = [] if falling else [average["values"] for average in learner.get("averages", ())[:1]]
    weights = learner["weights"] | (averages[0] if averages else {})
    small = {n: v.half() if v.is_floating_point() else v for n, v in weights.items()}
    progress = json.loads(json.dumps(saved["progress"]))
    torch.save({"weights": small, "progress": progress}, target)
