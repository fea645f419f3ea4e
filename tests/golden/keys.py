"""Training keys and build keys of made-up inputs: one case for every ingredient, each changed by itself."""

from __future__ import annotations

import json
from typing import Any

from perfusion_registry.artifact import build_key, training_key
from perfusion_registry.methods.perfusion.options import PerfusionRecipe
from perfusion_registry.methods.table import find_method, resolve_train

CONCEPT = {"name": "bear", "version": "1.0.0", "supercategory": "teddy", "images": ["1.png", "2.png"]}
TRAIN: dict[str, Any] = {
    "bias": 0.7,
    "temperature": 0.2,
    "steps": 200,
    "batch": 8,
    "learning_rate_output": 0.02,
    "learning_rate_embedding": 0.005,
    "residual_rank": 0.05,
    "learning_rate_residual": 0.002,
    "flip": False,
    "sizes": [1.0, 0.5],
    "company": ["a {} next to a chair"],
    "company_share": 0.25,
    "mask": "files",
    "validate_every": 50,
    "seed": 7,
    "templates": ["a photo of a {}"],
    "validation_prompts": ["a {} in the snow"],
    "validation_steps": 10,
    "validation_guidance": 4.0,
    "trained_keys": True,
}
RENDER: dict[str, Any] = {
    "bias": 0.5,
    "temperature": 0.2,
    "key_lock": "global",
    "residual": 0.7,
    "preset": "editable",
}
CARD: dict[str, Any] = {
    "name": "cub",
    "version": "1.0.1",
    "supercategory": "bear cub",
    "licence": "CC0-1.0",
    "authors": ["A. N. Author", "Zoë Ünal"],
    "consent": "it is mine",
    "description": "a bear",
    "images": ["other names", "of the same files"],
    "masks": ["masks/*.png"],
}
INPUTS: dict[str, Any] = {
    "images": ["1" * 64, "2" * 64],
    "masks": [],
    "base": "b" * 64,
    "covariance": "c" * 64,
    "base_licence": None,
    "epoch": 2,
    "card_train": {},
    "card_render": {},
}
CHANGED: dict[str, Any] = {
    "images": ["2" * 64, "1" * 64],
    "masks": ["3" * 64, None],
    "base": "d" * 64,
    "covariance": "e" * 64,
    "base_licence": "openrail",
    "epoch": 3,
    "card_train": {"steps": 250, "batch": 4, "validation_prompts": ["a {}"]},
    "card_render": {"bias": 0.55, "key_lock": "global", "steps": 25, "guidance": 4.0},
}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    **{f"train.{key}": {"train": {key: value}} for key, value in TRAIN.items()},
    **{f"render.{key}": {"render": {key: value}} for key, value in RENDER.items()},
    **{f"concept.{key}": {"concept": {key: value}} for key, value in CARD.items()},
    **{key: {key: value} for key, value in CHANGED.items()},
    "everything": {"train": TRAIN, "render": RENDER, "concept": CARD, **CHANGED},
}


def keys_of(case: dict[str, Any]) -> dict[str, str]:
    """Both keys of a case."""
    given = INPUTS | {key: value for key, value in case.items() if key in INPUTS}
    said = {
        "concept": CONCEPT | case.get("concept", {}),
        "train": case.get("train", {}),
        "render": case.get("render", {}),
    }
    recipe = PerfusionRecipe.model_validate_json(json.dumps(said))
    train = resolve_train(recipe, given["card_train"])
    render = find_method(recipe.concept.method).resolved_before(recipe, given["card_render"])
    inputs = (recipe, given["images"], given["masks"], given["base"], given["covariance"], train)
    epoch, licence = given["epoch"], given["base_licence"]
    return {
        "training": training_key(*inputs, render, epoch=epoch),
        "build": build_key(*inputs, render, epoch=epoch, base_licence=licence),
    }
