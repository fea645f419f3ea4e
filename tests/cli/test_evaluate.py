"""`perf evaluate`: what is shipped, what would be done, and a run with its report."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Perf
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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nosuch"], "there is no suite"),
        (["paper", "--figure", "99"], "no figure '99'"),
        (["paper", "--with-base", "oil=./x"], "does not fill a slot"),
        (["paper", "--with-base", "sepia=./nowhere", "--figure", "12"], "does not exist"),
    ],
)
def test_mistakes_are_told(perf: Perf, arguments, told) -> None:
    said = perf("evaluate", *arguments, "--dry-run")
    assert said.code == 2
    assert told in said.err.lower().replace("\n", " ") or told in said.err
