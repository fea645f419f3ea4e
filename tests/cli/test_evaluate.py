"""`perf evaluate`: what is shipped, what would be done, and a run with its report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from perfusion_registry.base.likeness import Likeness
from perfusion_registry.cache_folder import CACHE_VARIABLE
from perfusion_registry.evaluate.metrics import difference
from perfusion_registry.evaluate.results import read_results
from tests.base.test_likeness import save_dino
from tests.cli.running import Perf
from tests.evaluate.conftest import Smoke, smoke

__all__ = ["smoke"]


def test_list_names_the_figures_of_the_paper(perf: Perf) -> None:
    said = perf("evaluate", "list", "--json").json
    (paper,) = [suite for suite in said["suites"] if suite["name"] == "paper"]
    assert {"6", "7", "A.1"} <= {figure["id"] for figure in paper["figures"]}
    assert "Lock types" in perf("evaluate", "list").out


def test_a_dry_run_counts_and_changes_nothing(perf: Perf, smoke: Smoke, place) -> None:
    said = perf("evaluate", str(smoke.path), "--dry-run", "--json").json
    assert said["builds"] == {"needed": 3, "all": 3}
    assert said["pictures"]["needed"] == said["pictures"]["all"] > 0
    assert "ink" in said["left_out"]["12"]
    assert not (place / "out").exists()


@pytest.fixture
def store(place: Path, smoke: Smoke, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store that all evaluations of the suite share: what another test has drawn is not drawn again."""
    monkeypatch.setenv(CACHE_VARIABLE, str(smoke.place().root))


@pytest.mark.usefixtures("store")
def test_a_small_run_writes_results_and_report(perf: Perf, smoke: Smoke, place) -> None:
    arguments = ["evaluate", str(smoke.path), "--figure", "5", "--seeds", "1", "--device", "cpu", "-q"]
    said = perf(*arguments, "--json").json
    assert said["pictures"] == 2
    assert (place / said["report"]).is_file()
    assert (place / said["results"]).is_file()
    told = perf(*arguments)
    assert told.code == 0
    assert "report.html" in told.out
    assert "A shrunk run" in (place / "out" / "smoke" / "report.html").read_text()


@pytest.mark.usefixtures("store")
def test_claims_are_told_with_their_differences(perf: Perf, smoke: Smoke, place) -> None:
    arguments = ["evaluate", str(smoke.path), "--figure", "6", "--seeds", "2", "--device", "cpu", "-q"]
    (claim,) = perf(*arguments, "--no-report", "--json").json["claims"]
    found = read_results(place / "out" / "smoke" / "results.json").figures[0].claims[0].difference
    assert claim["difference"] == {"value": found.value, "low": found.low, "high": found.high}
    assert found.low <= found.value <= found.high
    told = perf(*arguments, "--no-report").out
    assert difference("image", found).replace("\N{NO-BREAK SPACE}", " ") in told
    assert " to " in told


@pytest.mark.usefixtures("store")
def test_a_report_of_other_figures_is_not_replaced_without_a_word(perf: Perf, smoke: Smoke, place) -> None:
    def run(figure: str) -> str:
        budget = ["--seeds", "1", "--prompts", "1", "--device", "cpu", "--no-report"]
        return perf("evaluate", str(smoke.path), "--figure", figure, *budget).err

    assert "replaces" not in run("6")
    assert "replaces" not in run("6")
    assert "held figures 6" in " ".join(run("5").split())


@pytest.mark.usefixtures("store")
def test_shares_are_told_in_plain_characters(perf: Perf, smoke: Smoke, place) -> None:
    text = smoke.path.read_text(encoding="utf-8")
    text = text.replace('metric = "image"', 'metric = "leakage"')
    (smoke.path.parent / "shares.toml").write_text(text, encoding="utf-8")
    shares = str(smoke.path.parent / "shares.toml")
    told = perf("evaluate", shares, "--figure", "6", "--seeds", "2", "--device", "cpu", "-q", "--no-report")
    assert told.code == 0
    assert " %" in told.out
    assert "\\x" not in told.out


@pytest.mark.usefixtures("store")
def test_likeness_by_a_dino_is_measured_where_one_is_given(perf: Perf, smoke: Smoke, place) -> None:
    dino = save_dino(place / "dino")
    asked = ["evaluate", str(smoke.path), "--figure", "5", "--seeds", "1", "--device", "cpu", "-q"]
    assert perf(*asked, "--dino", "dino", "--no-report").code == 0
    out = place / "out" / "smoke"
    results = read_results(out / "results.json")
    assert "dino" in results.figures[0].points[0].metrics
    model = Likeness.load(dino, torch.device("cpu"))

    def features(paths):
        rows = [torch.from_numpy(np.array(Image.open(out / path).convert("RGB"))) for path in paths]
        return model.features(torch.stack(rows).permute(0, 3, 1, 2).float() / 255)

    own = {one.name: features(one.images) for one in results.concepts}
    for record in results.images:
        seen = features([record.picture])
        both = [float((seen @ own[name].T).mean()) for name in record.concepts]
        assert record.metrics["dino"] == pytest.approx(sum(both) / 2, abs=1e-4)
    said = perf(*asked, "--dino", "nowhere")
    assert (said.code, "DINO model is missing" in said.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nosuch"], "there is no suite"),
        (["paper", "--figure", "99"], "no figure '99'"),
        (["paper", "--with-base", "oil=./x"], "no slot 'oil'"),
        (["paper", "--shard", "4/3"], "is no shard"),
        (["rivals", "--method", "dreamboth"], "dreambooth"),
        (["paper", "--with-base", "sepia"], "sepia=FOLDER"),
        (["paper", "--with-base", "sepia=./nowhere", "--figure", "12"], "does not exist"),
    ],
)
def test_mistakes_are_told(perf: Perf, arguments, told) -> None:
    said = perf("evaluate", *arguments, "--dry-run")
    assert said.code == 2
    assert told in said.err.lower().replace("\n", " ") or told in said.err
