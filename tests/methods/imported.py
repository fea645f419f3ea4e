"""Files that are imported, drawn by perf and by diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from perfusion_registry.artifact import Artifact, ConceptCard, load_artifact, save_artifact
from perfusion_registry.artifact.card import Imported
from perfusion_registry.base import Base, BaseDescription
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.compose.composition import parse_composition
from perfusion_registry.methods.table import importing_method
from perfusion_registry.render import native_values, render, resolve_request


def widths(base: Base) -> list[int]:
    return [int(table.weight.shape[1]) for table in base.embedding_tables]


def described(base: Base) -> BaseDescription:
    assert isinstance(base.description, BaseDescription)
    return base.description


def concept(base: Base, file: Path, name: str, kind: str | None = None, word: str | None = None) -> Concept:
    """What is imported from a file, kept as an artifact keeps it."""
    description = described(base)
    method, found = importing_method(file, description)
    made = method.imported(found.file, description, name)
    card = ConceptCard(
        method=method.name,
        name=name,
        version="1.0.0",
        supercategory=kind,
        word=word,
        architecture=description.architecture,
        family=description.family,
        base=description.repo,
        imported=Imported(file=file.name, sha256="0" * 64, size=1, dialect=made.dialect),
        train=method.table("train", imported=True)(),
        render=method.draw_model(),
        built=made.built,
        vectors=made.vectors,
    )
    data = save_artifact(Artifact(card, made.tensors))
    read = load_artifact(data)
    assert save_artifact(read) == data
    return Concept(read, "0" * 64)


def drawn(base: Base, prompt: str, concepts: Mapping[str, Concept], steps: int = 2) -> Any:
    composition = compose(parse_prompt(prompt), concepts, base)
    composition = parse_composition(composition.to_json(), where="")  # as its file has it
    given = {"seeds": (3,), "steps": steps}
    request = resolve_request(given, base.description.card.render, native=native_values(base))
    (picture,) = render(base, composition, request, {name: c.artifact for name, c in concepts.items()})
    return np.asarray(picture.image, int)


def stock(base: Base, prompt: str, words: Mapping[str, list[Tensor] | Path], lora: Path | None = None) -> Any:
    """What diffusers draws with these words, each of a file or of vectors for each text encoder, and a
    LoRA."""
    folder = described(base).folder
    pipe: Any = (
        StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
        if len(widths(base)) > 1
        else StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    for word, said in words.items():
        if isinstance(said, Path):
            pipe.load_textual_inversion(str(said.parent), weight_name=said.name, token=word)
            continue
        for own, end in zip(said, ("", "_2"), strict=False):
            encoder, tokenizer = getattr(pipe, f"text_encoder{end}"), getattr(pipe, f"tokenizer{end}")
            pipe.load_textual_inversion(own, token=word, text_encoder=encoder, tokenizer=tokenizer)
    if lora is not None:
        pipe.load_lora_weights(str(lora))
    result = pipe(
        prompt,
        num_inference_steps=2,
        guidance_scale=base.description.card.render["guidance"],
        width=64,
        height=64,
        generator=[torch.Generator().manual_seed(3)],
    )
    return np.asarray(result.images[0], int)
