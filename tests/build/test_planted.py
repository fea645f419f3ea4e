"""A planted concept: a hidden embedding and o*_V make the denoiser's targets, and a build recovers them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from perfusion_registry.base import ConceptPiece, describe_base, load_base
from perfusion_registry.methods.embeddings import embedding_name
from perfusion_registry.methods.perfusion.tensors import offsets
from tests.planted import CASES, recover


def save_shallow_unet(folder: Path) -> None:
    """Put a UNet of two blocks in the place of one of three, which takes as much longer as it has modules."""
    kept = {
        **UNet2DConditionModel.load_config(folder),
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    if not isinstance(kept["attention_head_dim"], int):
        kept["attention_head_dim"] = kept["attention_head_dim"][:2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DConditionModel.from_config(kept).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_build_recovers_a_planted_concept(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    folder = case.save(tmp_path / "base")
    if case.architecture == "stable-diffusion":
        save_shallow_unet(folder / "unet")
    described = describe_base(str(folder))
    assert described.architecture == case.architecture
    base = load_base(described, device="cpu", dtype="float32", compute_dtype="float32")
    found = recover(base, case, tmp_path)
    assert found.left < 0.01
    assert len(found.gradients) == len(base.embedding_tables) + len(base.cross_attentions)
    assert min(found.gradients.values()) > 0, found.gradients
    built = found.artifact
    row = base.tokenise(["a photo of a ", ConceptPiece("teddy")])
    for number, (table, ids, (at,)) in enumerate(
        zip(base.embedding_tables, row.ids, row.places[0], strict=True)
    ):
        own = built.tensors[embedding_name(number)]
        assert float((own - table.weight[ids[at]]).abs().min()) > 0
    assert all(float(offset.abs().max()) > 0 for offset in offsets(built.tensors).values())
