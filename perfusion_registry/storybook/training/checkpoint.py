"""Checkpoints of training runs: written beside and renamed, so that a killed run leaves the last whole
one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from perfusion_registry.storybook.training.optimizer import MasterOptimizer


def save_checkpoint(path: Path, optimizer: MasterOptimizer, state: dict[str, Any]) -> None:
    """Write the optimiser (which holds the master weights) and `state` to `path` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    torch.save({"optimizer": optimizer.state_dict(), "state": state}, beside)
    os.replace(beside, path)


def load_checkpoint(path: Path, optimizer: MasterOptimizer, state: dict[str, Any]) -> bool:
    """Fill optimiser, model and `state` from `path`; False, and nothing touched, where there is none."""
    if not path.exists():
        return False
    saved = torch.load(path, weights_only=True, map_location="cpu")
    optimizer.load_state_dict(saved["optimizer"])
    state.update(saved["state"])
    return True
