"""A planted concept: a hidden embedding and o*_V make the denoiser's targets, and a build recovers them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from perfusion_registry.artifact import load_artifact, save_artifact
from perfusion_registry.base import Base, ConceptPiece, Conditioning, describe_base, load_base
from perfusion_registry.build import ConceptSources, build_concept, estimate_covariance
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.methods.embeddings import embedding_name
from perfusion_registry.methods.perfusion.gate import Gate
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.methods.perfusion.tensors import offsets
from tests.anima import save_tiny_anima
from tests.pixart import save_tiny_pixart
from tests.sdxl import save_tiny_sdxl

CAPTIONS = ["a photo of a teddy", "a cat in the snow", "a teapot on a table", "a red boat at sea"]
OPTIONS = TrainOptions(
    steps=120, batch=2, validate_every=120, templates=("a photo of a {}",), mask="none", flip=False,
    learning_rate_output=0.1, learning_rate_embedding=0.015,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Planted:
    """The base's own objective, with what a hidden concept answers for a target."""

    base: Base
    own: Any
    hidden: Conditioning

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    @torch.no_grad()
    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        noisy = self.own.add_noise(latents, noise, times)
        return self.base.denoise(noisy, times, self.hidden.repeated(len(latents)))


@torch.no_grad()
def hidden_concept(base: Base, C: Tensor, far: float = 0.5, other: float = 1.0) -> Conditioning:
    """ "a photo of a <hidden>", packed as Eq. 3 has it for one concept, written as a sum. far: how far its
    embeddings are from the word's, in standard deviations of the table. other: the same of o*_V."""
    dice, W = torch.Generator().manual_seed(3), base.bank.W
    row = base.tokenise(["a photo of a ", ConceptPiece("teddy")])
    (place,) = row.concept_positions
    own = []
    for table, ids, (at,) in zip(base.embedding_tables, row.ids, row.places[0], strict=True):
        spread = far * table.weight.std() * torch.randn(table.weight.shape[1], generator=dice)
        own.append(table.weight[ids[at]] + spread)
    start, encoded = base.encode([row]).states[0, place], base.encode([row], {(0, 0): own})
    E, keys = encoded.states[0], base.bank.key_columns
    o = W @ start
    o = torch.where(keys, o, o + other * o[~keys].std() * torch.randn(len(o), generator=dice))
    i = E[place]
    v = CovarianceMetric(C).dual(i)
    similarity = E @ v / (i @ v)
    gate = torch.sigmoid((similarity - OPTIONS.bias) / OPTIONS.temperature)
    if encoded.mask is not None:
        similarity, gate = similarity * encoded.mask[0], gate * encoded.mask[0]
    h = E @ W.T - similarity[:, None] * (W @ i) + gate[:, None] * o
    return encoded.with_states(h[None])


@torch.no_grad()
def distance(base: Base, one: Conditioning, other: Conditioning) -> float:
    """The mean squared difference of what the denoiser answers at 16 noises it was never trained on."""
    dice = torch.Generator().manual_seed(9)
    x, t = torch.randn(16, 4, 8, 8, generator=dice), base.objective.draw_times(16, dice)
    with base.attached():
        one, other = (base.denoise(x, t, which.repeated(16)) for which in (one, other))
    return float((one - other).square().mean())


def save_small_sdxl(folder: Path) -> Path:
    """SDXL with two blocks of one layer."""
    small: dict[str, Any] = {
        "layers_per_block": 1,
        "transformer_layers_per_block": (1, 1),
        "block_out_channels": (16, 32),
        "attention_head_dim": (2, 4),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return save_tiny_sdxl(folder, **small)


@dataclass(frozen=True)
class Case:
    """A base, how far the hidden concept is (see `hidden_concept`), and options that find it quickly."""

    save: Callable[[Path], Path]
    far: float = 0.5
    other: float = 1.0
    options: TrainOptions = OPTIONS


def options(steps: int, embedding: float, output: float) -> TrainOptions:
    rates = {"learning_rate_embedding": embedding, "learning_rate_output": output}
    return OPTIONS.model_copy(update={"steps": steps, "validate_every": steps, **rates})


BASES = {
    "sdxl": Case(save_small_sdxl),
    "pixart-sigma": Case(save_tiny_pixart, options=options(120, 0.0002, 0.1)),
    # Another embedding changes what all words of Anima say, and i* follows as a moving average.
    "anima": Case(save_tiny_anima, 0.2, 2.0, options(200, 0.0005, 0.03)),
}


@pytest.fixture(scope="module", params=BASES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Without a scorer, so that the last step is the one that is kept."""
    described = describe_base(str(BASES[request.param].save(tmp_path_factory.mktemp("base"))))
    assert described.architecture == request.param
    loaded = load_base(described, device="cpu", dtype="float32", compute_dtype="float32")
    return replace(loaded, scorer=None)


@pytest.mark.slow
def test_a_build_recovers_a_planted_concept(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    covariance = estimate_covariance(base, CAPTIONS * 10)
    case = BASES[base.description.architecture]
    hidden = hidden_concept(base, covariance.C, case.far, case.other)
    monkeypatch.setitem(base.__dict__, "objective", Planted(base, base.objective, hidden))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "1.png")
    sources = ConceptSources("teddy", "1.0.0", "teddy", (tmp_path / "1.png",))
    made = build_concept(base, covariance, sources, case.options, RenderOptions(), digest="ab" * 32)
    built = load_artifact(save_artifact(made))

    gate = Gate(bias=OPTIONS.bias, temperature=OPTIONS.temperature)
    concepts = {"teddy": Concept(built, "0" * 64, gate)}
    composition = compose(parse_prompt("a photo of a teddy*"), concepts, base)
    recovered = pack(base, composition, {"teddy": built})
    plain = base.encode([base.tokenise(["a photo of a teddy"])])
    start = plain.with_states(plain.states @ base.bank.W.T)
    assert distance(base, recovered, hidden) < 0.01 * distance(base, start, hidden)
    row = base.tokenise(["a photo of a ", ConceptPiece("teddy")])
    names = [embedding_name(number) for number in range(len(base.embedding_tables))]
    for name, table, ids, (at,) in zip(names, base.embedding_tables, row.ids, row.places[0], strict=True):
        assert float((built.tensors[name] - table.weight[ids[at]]).abs().min()) > 0
    assert all(float(offset.abs().max()) > 0 for offset in offsets(built.tensors).values())
