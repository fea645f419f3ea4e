"""A planted concept: a hidden embedding and o*_V make the denoiser's targets, and a build recovers them."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.base import ConceptPiece, describe_base, load_base
from perfusion_registry.methods.embeddings import embedding_name
from perfusion_registry.methods.perfusion.tensors import offsets
from tests.planted import CASES, recover


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_build_recovers_a_planted_concept(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    folder = case.save(tmp_path / "base")
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
