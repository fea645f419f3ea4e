"""Concepts with random numbers in them, for the tests of composition and rendering."""

import hashlib

import numpy as np
import torch

from perfusion_registry.artifact import Artifact, ConceptCard, save_artifact
from perfusion_registry.base import Base, ConceptPiece, block_widths
from perfusion_registry.compose.concept import Concept
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import Built, RenderOptions, TrainOptions

COVARIANCE = "c" * 64


def covariance(width: int, seed: int = 0) -> np.ndarray:
    """A random positive definite C (d, d), float64."""
    A = np.random.default_rng(seed).standard_normal((width, 3 * width))
    return A @ A.T / (3 * width)


def artifact(
    base: Base, name: str, word: str, seed: int, /, *, trained_keys: bool = False, rank: float = 0, **card
) -> Artifact:
    """A concept whose target input is near `word`'s encoding, so that its gate opens at its own token."""
    random = torch.Generator().manual_seed(seed)
    embedding = base.embedding_tables[0].weight
    d = base.bank.W.shape[1]
    tokens = base.tokenise(["a photo of a ", ConceptPiece(word)])
    (place,) = tokens.concept_positions
    with torch.no_grad():
        i = base.encode([tokens]).states[0, place]
    i = i + 0.1 * torch.randn(d, generator=random)
    tensors = {
        "embedding": embedding[tokens.ids[0][place]].detach()
        + 0.1 * embedding.std().item() * torch.randn(embedding.shape[1], generator=random),
        "target_input": i,
        "target_input_dual": CovarianceMetric(torch.from_numpy(covariance(d)), ridge=0.0).dual(i),
    }
    for layer in base.bank.layers:
        width = layer.value_slice.stop - layer.value_slice.start
        tensors[f"output.{layer.path}"] = torch.randn(width, generator=random).half()
        if trained_keys:
            tensors[f"output_key.{layer.path}"] = torch.randn(width, generator=random).half()
    for path, (out, into) in block_widths(base.residual_blocks).items() if rank else ():
        r = max(1, round(rank * out))
        tensors[f"residual_down.{path}"] = (torch.randn(r, into, generator=random) / into**0.5).half()
        tensors[f"residual_up.{path}"] = (0.3 * torch.randn(out, r, generator=random)).half()
    values = {
        "name": name,
        "version": "1.0.0",
        "supercategory": word,
        "family": base.description.family,
        "recipe_digest": hashlib.sha256(name.encode()).hexdigest(),
        "base": base.description.repo,
        "train": TrainOptions(trained_keys=trained_keys, residual_rank=rank),
        "render": RenderOptions(),
        "built": Built(covariance=COVARIANCE, step=100),
        "schema_version": 1,
    }
    return Artifact(ConceptCard(**(values | card)), tensors)


def concept(made: Artifact, gate: Gate | None = None) -> Concept:
    return Concept(made, hashlib.sha256(save_artifact(made)).hexdigest(), gate or Gate())


def concepts_of(*artifacts: Artifact) -> dict[str, Concept]:
    return {made.card.name: concept(made) for made in artifacts}


def on(concepts: dict[str, Concept]) -> dict[str, Artifact]:
    return {name: found.artifact for name, found in concepts.items()}
