"""The build key: a digest of everything that changes an artifact's bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe import Recipe
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.recipe import DEFAULT_METHOD

_KEY_SCHEMA = 1
TRANSFER_EPOCH = 1
"""Raised whenever a change to transfers changes the bytes that they come to."""


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of a JSON value in canonical form: sorted keys, no spaces, ASCII."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def training_key(
    recipe: Recipe,
    images: Sequence[str],
    masks: Sequence[str],
    base: str,
    covariance: str | None,
    train: FileModel,
    render: FileModel,
    *,
    epoch: int,
    captions: Sequence[Sequence[str | int | None]] = (),
) -> str:
    """Digest (hex) of everything that changes an artifact's tensors.

    images, masks: the SHA-256 of each file's bytes; their order matters to training, and their names do not.
    Of a concept that is imported, images is the file. base, covariance: digests of the base's files and of C,
    None for a method without one. train: the resolved options, seed included. render: of it only where a
    residual is drawn, as the step that is kept is chosen by such pictures. epoch: counts changes of the
    trainer that change its results. captions: what is said of each image (`Caption.key`), where anything is.

    The key of a perfusion concept is spelt as it was before there were methods, so nothing that was built is
    built again. Every other says its method, and leaves out what the method does not have.
    """
    inputs: dict[str, Any] = {
        "schema": _KEY_SCHEMA,
        "epoch": epoch,
        "supercategory": recipe.concept.supercategory,
        "images": list(images),
        "masks": list(masks),
        "base": base,
        "covariance": covariance,
        "train": train.model_dump(mode="json"),
    }
    method = find_method(recipe.concept.method)
    if method.name != DEFAULT_METHOD:
        inputs |= {"method": method.name, "method_epoch": method.epoch}
        inputs = {key: value for key, value in inputs.items() if value is not None}
        if (mask := method.mask(render)) != "ramp":
            inputs["mask"] = mask
        if captions:
            inputs["captions"] = [list(caption) for caption in captions]
    return digest_of(inputs)


def transfer_key(source: str, base: str, covariance: str | None) -> str:
    """Digest (hex) of everything that the tensors of a transferred concept depend on; it takes the place of
    `training_key`.

    source: the SHA-256 of the artifact that is transferred. base, covariance: digests as in `training_key`.
    """
    inputs = {"transfer": TRANSFER_EPOCH, "source": source, "base": base, "covariance": covariance}
    return digest_of({key: value for key, value in inputs.items() if value is not None})


def card_key(training: str, recipe: Recipe, render: FileModel, *, base_licence: str | None = None) -> str:
    """The recipe digest: a key of tensors, and everything else that the artifact's card says."""
    card = recipe.concept.model_dump(
        mode="json", exclude={"images", "masks", "file", "supercategory", "preview"}
    )
    if base_licence is not None:
        card["base_licence"] = base_licence
    return digest_of({"training": training, "card": card, "render": render.model_dump(mode="json")})


def build_key(
    recipe: Recipe,
    images: Sequence[str],
    masks: Sequence[str],
    base: str,
    covariance: str | None,
    train: FileModel,
    render: FileModel,
    *,
    epoch: int,
    base_licence: str | None = None,
) -> str:
    """The recipe digest: `training_key` and everything else that the artifact's card says.

    Two recipes with one training key and two build keys differ only in their cards; the second needs no
    training.
    """
    training = training_key(recipe, images, masks, base, covariance, train, render, epoch=epoch)
    return card_key(training, recipe, render, base_licence=base_licence)
