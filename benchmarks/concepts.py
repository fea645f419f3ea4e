"""Concepts of the embedded base's cast, of whichever edition: built without a project, and drawn."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base
from perfusion_registry.build import ConceptSources, build_concept, load_covariance
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.render import native_values, render, resolve_request
from perfusion_registry.storybook.judging import WORLD


def sources_of(name: str) -> ConceptSources:
    """The reference pictures of one of the cast, as files in PNG, and its word."""
    images = []
    for picture in WORLD.images(name):
        file = io.BytesIO()
        pixels = (picture * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(pixels).save(file, "PNG")
        images.append(file.getvalue())
    return ConceptSources(name, "1.0.0", WORLD.supercategory(name), tuple(images))


def built(base: Base, name: str, **options: Any) -> Artifact:
    """The concept of one of the cast, by the options of the base's card and the given ones."""
    card = base.description.card
    declared = {k: tuple(v) if isinstance(v, list) else v for k, v in card.train.items()}
    train = TrainOptions(**(declared | options))
    defaults = {k: v for k, v in card.render.items() if k in RenderOptions.model_fields}
    covariance = load_covariance(base.description.folder / card.covariance)
    return build_concept(
        base, covariance, sources_of(name), train, RenderOptions(**defaults), digest="0" * 64
    )


def drawn(base: Base, prompt: str, artifact: Artifact | None, count: int) -> Tensor:
    """Pictures (count, 3, h, w) of a prompt."""
    name = artifact.card.name if artifact else ""
    concepts = {name: Concept(artifact, "0" * 64)} if artifact else {}
    composition = compose(parse_prompt(prompt), concepts, base)
    given = {"seeds": tuple(range(count)), "batch": count}
    request = resolve_request(given, base.description.card.render, native=native_values(base))
    artifacts = {name: artifact} if artifact else {}
    pictures = [r.image for r in render(base, composition, request, artifacts)]
    return (
        torch.stack([torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8) for p in pictures])
        .view(count, request.height, request.width, 3)
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )
