"""The matrix of architectures (`benchmarks/matrix`) sees what is wrong, and hides nothing."""

from __future__ import annotations

import pytest

from benchmarks.matrix import by_hand, cells
from benchmarks.matrix.cells import filled
from benchmarks.matrix.rows import Row
from benchmarks.matrix.table import as_json, markdown
from tests import paper


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    return Row("PixArt-Sigma", tmp_path_factory.mktemp("row"))


def test_a_base_that_is_edited_by_hand_draws_the_same(row: Row) -> None:
    for column in ("recognise", "covariance", "local lock", "two concepts", "residual", "thin form"):
        cell = filled(column, row)
        assert cell.good, f"{column}: {cell.text}"
    size = filled("full size", row).numbers
    assert size["layers"] == 28
    assert 85_000 < size["bytes"] < 100_000


def test_another_metric_another_mask_and_another_value_are_seen(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(paper, "RIDGE", 1.1 * paper.RIDGE)
        assert not filled("local lock", row).good
    with monkeypatch.context() as patch:
        patch.setattr(by_hand, "LEAST", 0.3)
        assert not filled("residual", row).good
    with monkeypatch.context() as patch:
        value = by_hand.ByHand._value
        last = row.base.cross_attentions[-1].path
        patch.setattr(
            by_hand.ByHand,
            "_value",
            staticmethod(lambda edit, layer, o: value(edit, layer, o) * (1.01 if layer == last else 1)),
        )
        assert not filled("two concepts", row).good


def test_what_is_refused_says_why_and_what_fails_says_so(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = filled("img2img", row)
    assert (refused.text, refused.good) == ("refused: the base draws from prompts alone", True)
    monkeypatch.setattr(cells, "EXPECTED_REFUSALS", {})
    assert not filled("img2img", row).good
    monkeypatch.setitem(cells.COLUMNS, "dtype", lambda row: 1 / 0)
    failed = filled("dtype", row)
    assert (failed.text, failed.good) == ("failed: ZeroDivisionError: division by zero", False)
    page = markdown({"PixArt-Sigma": {"img2img": refused, "dtype": failed}, "SD 1": {"img2img": refused}})
    assert "| **img2img** | refused: the base draws" in page
    assert "| **dtype** | **NOT GOOD** failed: ZeroDivisionError: division by zero | not run |" in page
    assert as_json({"a": {"dtype": failed}})["a"]["dtype"]["good"] is False
