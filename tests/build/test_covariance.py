"""Covariance: the mean of e e^T, whatever the batching, the padding and the interruptions."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from perfusion_registry.base import Base
from perfusion_registry.build import (
    Covariance,
    estimate_covariance,
    gate_report,
    load_covariance,
    save_covariance,
)
from perfusion_registry.build.counted import merged
from perfusion_registry.build.covariance import CovarianceCard
from perfusion_registry.build.estimation import count as count_captions
from perfusion_registry.build.exact_sum import ExactSum
from perfusion_registry.errors import PerfError
from tests.tiny import WORDS


def captions(count: int, seed: int = 0) -> list[str]:
    dice = random.Random(seed)
    return [" ".join(dice.choices(WORDS, k=dice.randint(1, 30))) for _ in range(count)]


@pytest.fixture(scope="module")
def exact(tiny_base: Base) -> Base:
    """The tiny base with a float64 text encoder, so that only the order of sums can differ."""
    return dataclasses.replace(tiny_base, text_encoder=copy.deepcopy(tiny_base.text_encoder).double())


def reference(base: Base, texts: list[str], *, padding: bool) -> torch.Tensor:
    """Every caption alone, at full length, summed in float64 by numpy."""
    tokenizer = base.pipe.tokenizer
    total, count = np.zeros((32, 32)), 0
    for text in texts:
        row = tokenizer(text, truncation=True, max_length=77, padding="max_length", return_tensors="pt")
        with torch.no_grad():
            e = base.text_encoder(row.input_ids).last_hidden_state[0].double().numpy()
        if not padding:
            e = e[: len(tokenizer(text, truncation=True, max_length=77).input_ids)]
        total += e.T @ e
        count += len(e)
    return torch.from_numpy(total / count)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_without_padding_it_is_the_mean_over_real_tokens(exact: Base) -> None:
    texts = [*captions(40), " ".join(["teddy"] * 200)]
    found = estimate_covariance(exact, texts, padding="none")
    assert difference(found.C, reference(exact, texts, padding=False)) < 1e-6  # encode gives float32
    assert found.card.tokens == found.count
    assert found.card.captions == 41


def test_with_every_caption_sampled_it_is_the_mean_over_all_positions(exact: Base) -> None:
    texts = captions(40)
    found = estimate_covariance(exact, texts, padding="all", padding_sample=1)
    assert difference(found.C, reference(exact, texts, padding=True)) < 1e-6
    assert found.count == 40 * 77


def test_a_sample_of_the_padding_comes_close_to_all_of_it(tiny_base: Base) -> None:
    texts = captions(400)
    every = estimate_covariance(tiny_base, texts, padding_sample=1)
    some = estimate_covariance(tiny_base, texts, padding_sample=8)
    none = estimate_covariance(tiny_base, texts, padding="none")
    assert some.count == every.count
    assert (
        difference(some.C, every.C) < 0.1
    )  # 50 captions' padding; the error falls with the root of their number
    assert difference(none.C, every.C) > 0.5


@pytest.mark.parametrize("padding", ["all", "none"])
def test_batching_does_not_change_it(exact: Base, padding: str) -> None:
    texts = captions(120)
    found = [
        estimate_covariance(exact, texts, padding=padding, batch_tokens=size).C  # type: ignore[arg-type]
        for size in (1, 100, 10**6)
    ]
    assert difference(found[0], found[2]) < 1e-9
    assert difference(found[1], found[2]) < 1e-9


def test_the_order_of_captions_changes_the_corpus_but_not_the_matrix(tiny_base: Base) -> None:
    texts = captions(50)
    forward = estimate_covariance(tiny_base, texts, padding="none")
    backward = estimate_covariance(tiny_base, texts[::-1], padding="none")
    assert difference(forward.C, backward.C) < 1e-9
    assert forward.card.corpus != backward.card.corpus


class StopHereError(Exception):
    pass


def interrupted(texts: list[str], after: int) -> Iterator[str]:
    yield from texts[:after]
    raise StopHereError


def test_an_interrupted_run_ends_with_the_same_bytes(
    tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfusion_registry.build.estimation.WINDOW", 32)
    texts, checkpoint = captions(150), tmp_path / "checkpoint"
    save_covariance(estimate_covariance(tiny_base, texts), tmp_path / "whole")
    for after in (70, 140):
        with pytest.raises(StopHereError):
            estimate_covariance(
                tiny_base, interrupted(texts, after), checkpoint=checkpoint, checkpoint_seconds=0
            )
        assert checkpoint.exists()
    resumed = estimate_covariance(tiny_base, texts, checkpoint=checkpoint, checkpoint_seconds=0)
    save_covariance(resumed, tmp_path / "resumed")
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()
    with pytest.raises(PerfError, match="other captions"):
        estimate_covariance(tiny_base, captions(150, seed=1), checkpoint=checkpoint)
    with pytest.raises(PerfError, match="another base, padding or shard"):
        estimate_covariance(tiny_base, texts, padding="none", checkpoint=checkpoint)


def test_no_captions_are_an_error(tiny_base: Base) -> None:
    with pytest.raises(PerfError, match="no captions"):
        estimate_covariance(tiny_base, [])


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    card = CovarianceCard(corpus="ab" * 32, captions=3, tokens=9, positions=9, padding="none")
    saved = Covariance(torch.eye(5, dtype=torch.float64) / 3, card)
    save_covariance(saved, tmp_path / "c.safetensors")
    loaded = load_covariance(tmp_path / "c.safetensors", width=5)
    assert torch.equal(loaded.C, saved.C)
    assert loaded.card == card
    assert loaded.digest == saved.digest
    assert loaded.condition() == pytest.approx(1)


def test_a_bare_matrix_has_one_digest_in_every_format(tmp_path: Path) -> None:
    matrix = np.diag(np.arange(1, 5, dtype=np.float32))
    np.save(tmp_path / "c.npy", matrix)
    save_file({"whatever": torch.from_numpy(matrix)}, tmp_path / "c.safetensors")
    from_npy = load_covariance(tmp_path / "c.npy")
    assert from_npy.card.corpus == "unknown"
    assert from_npy.digest == load_covariance(tmp_path / "c.safetensors").digest


UNUSABLE = {
    "not square": (np.ones((2, 3)), "square"),
    "a vector": (np.ones(3), "square"),
    "another width": (np.eye(3), "has width 4"),
    "not finite": (np.diag([1, 1, 1, np.nan]), "not finite"),
    "not symmetric": (np.eye(4) + np.triu(np.ones((4, 4)), 1), "not symmetric"),
    "not positive": (np.diag([1.0, 1, 1, -1]), "positive definite"),
    "integers": (np.eye(4, dtype=int), "floating-point"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_matrices_that_cannot_be_a_covariance_are_refused(tmp_path: Path, case: str) -> None:
    matrix, what = UNUSABLE[case]
    np.save(tmp_path / "c.npy", matrix)
    with pytest.raises(PerfError, match=what) as caught:
        load_covariance(tmp_path / "c.npy", width=4)
    assert caught.value.where == str(tmp_path / "c.npy")


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"junk" * 9, b"\xff" * 64])
def test_files_of_another_kind_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c").write_bytes(data)
    with pytest.raises(PerfError, match=r"not a"):
        load_covariance(tmp_path / "c")


def test_the_gate_report_measures_every_position(tiny_base: Base) -> None:
    texts = captions(200)
    matrices = {
        "all": estimate_covariance(tiny_base, texts),
        "none": estimate_covariance(tiny_base, texts, padding="none"),
    }
    rows = gate_report(tiny_base, matrices, "teddy", ["a photo of a {}", "a {} in the snow"])
    assert len(rows) == 2 * 77
    kinds = [row.kind for row in rows[77 : 77 + 9]]
    assert kinds == ["start", "word", "concept", "word", "word", "word", "end", "padding", "padding"]
    assert [row.word for row in rows[78:83]] == ["a", "teddy", "in", "the", "snow"]
    (target,) = (row for row in rows[:77] if row.kind == "concept")
    assert target.similarity == pytest.approx({"all": 1, "none": 1}, abs=1e-5)
    # By hand, with plain inverses.
    ids = tiny_base.pipe.tokenizer(
        "a photo of a teddy", padding="max_length", max_length=77, return_tensors="pt"
    )
    with torch.no_grad():
        e = tiny_base.text_encoder(ids.input_ids).last_hidden_state[0].double()
    C = matrices["none"].C
    inverse = torch.linalg.inv(C + 0.01 * C.diagonal().mean() * torch.eye(32, dtype=torch.float64))
    expected = (e @ inverse @ e[5]) / (e[5] @ inverse @ e[5])
    assert [row.similarity["none"] for row in rows[:77]] == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shards_merge_to_the_bytes_of_one_run(
    tiny_base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Whatever their number, in any order, one of them interrupted, one with nothing to do."""
    monkeypatch.setattr("perfusion_registry.build.estimation.WINDOW", 32)
    texts = captions(190)  # six windows
    save_covariance(estimate_covariance(tiny_base, texts, batch_tokens=500), tmp_path / "whole")
    paths = []
    for number in range(1, count + 1):
        checkpoint = tmp_path / f"checkpoint-{number}"
        how: dict[str, Any] = {"shard": (number, count), "batch_tokens": 500, "checkpoint": checkpoint}
        if number == 2:
            with pytest.raises(StopHereError):
                count_captions(tiny_base, interrupted(texts, 100), checkpoint_seconds=0, **how)
        paths.append(tmp_path / f"{number}-of-{count}")
        count_captions(tiny_base, texts, **how).save(paths[-1])
    random.Random(count).shuffle(paths)
    save_covariance(merged(paths).covariance(), tmp_path / "merged")
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "whole").read_bytes()


def test_shards_that_do_not_belong_together_are_refused(tiny_base: Base, tmp_path: Path) -> None:
    texts = captions(40)

    def saved(name: str, of: list[str], *shard: int, **how: Any) -> Path:
        count_captions(tiny_base, of, shard=(shard[0], shard[1]), **how).save(tmp_path / name)
        return tmp_path / name

    first, third = saved("1-of-3", texts, 1, 3), saved("3-of-3", texts, 3, 3)
    for others, said in (
        ([third], r"shards are missing: 2/3\n"),
        ([third, third], "shard 3/3 is given twice"),
        ([saved("other", captions(40, seed=1), 2, 3)], "of other captions than the first\n.*other"),
        ([saved("padding", texts, 2, 3, padding="none")], "of another base or other options than the first"),
        ([saved("2-of-4", texts, 2, 4)], "is one of 4 shards, and the first file is one of 3"),
        ([saved("1-of-2", texts, 1, 2)], "is one of 2 shards, and the first file is one of 3"),
        ([tmp_path / "none"], "cannot be read: No such file"),
    ):
        with pytest.raises(PerfError, match=said) as caught:
            merged([first, *others])
        assert caught.value.hint
    old = tmp_path / "old"
    data = first.read_bytes().replace(b'\\"version\\":2', b'\\"version\\":1')
    old.write_bytes(data)
    with pytest.raises(PerfError, match="counted by another version of perf"):
        merged([first, old])
    with pytest.raises(PerfError, match=r"cannot be resumed: .* another version of perf"):
        count_captions(tiny_base, texts, checkpoint=old)
    with pytest.raises(PerfError, match=r"cannot be resumed: .* cannot be read: Is a directory"):
        count_captions(tiny_base, texts, checkpoint=tmp_path)
    (tmp_path / "c").write_bytes(b"")
    save_covariance(estimate_covariance(tiny_base, texts), tmp_path / "c")
    with pytest.raises(PerfError, match="no part of a covariance"):
        merged([tmp_path / "c"])


@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-6, 1.0, 300.0, 30_000.0]))
def test_sums_are_exact_in_any_order_and_any_parts(seed: int, scale: float) -> None:
    """Against rational numbers: of encodings on the grid, only `total` rounds."""
    dice = torch.Generator().manual_seed(seed)
    e = ((torch.rand(37, 3, generator=dice, dtype=torch.float64) - 0.5) * scale * 2**24).round() / 2**24
    whole, parts = ExactSum.zero(3), [ExactSum.zero(3) for _ in range(3)]
    whole.add(e)
    order = torch.randperm(37, generator=dice)
    for part, rows in zip(parts, order.split(13), strict=True):
        part.add(e[rows])
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    assert torch.equal(parts[2].limbs, whole.limbs)
    for i, j in ((0, 0), (0, 2), (2, 1)):
        pairs = zip(e[:, i].tolist(), e[:, j].tolist(), strict=True)
        exact = sum(Fraction(a) * Fraction(b) for a, b in pairs)
        assert abs(Fraction(float(whole.total()[i, j])) - exact) <= abs(exact) * Fraction(1, 2**52)


def test_what_cannot_be_summed_exactly_is_refused(tiny_base: Base) -> None:
    for bad in (float("nan"), float("inf"), 2.0**15):
        with pytest.raises(ValueError, match="finite and below 32,768"):
            ExactSum.zero(2).add(torch.tensor([[1.0, bad]]))
    encoder = copy.deepcopy(tiny_base.text_encoder)
    encoder.get_input_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(PerfError, match="gives what cannot be summed"):
        estimate_covariance(dataclasses.replace(tiny_base, text_encoder=encoder), captions(3))
