"""The report of a whole evaluation: one file, nothing fetched, everything in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.metrics import told
from perfusion_registry.evaluate.report import write_report
from perfusion_registry.evaluate.runner import evaluate
from tests.evaluate.conftest import Smoke

VOID = {"meta", "img", "br"}


class Tags(HTMLParser):
    """Checks that tags nest, and gathers what the page would fetch and which ids it has."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.all: list[tuple[str, list[tuple[str, str]]]] = []

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "src" or (name in ("href", "xlink:href") and tag != "a"):
                self.fetched.append(value)
            if name == "id":
                self.ids.append(value)
            if name == "href" and tag == "a":
                self.links.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def made(smoke: Smoke):
    results = evaluate(smoke.suite, smoke.path, smoke.place("report"))
    path = write_report(results, smoke.root / "report")
    return results, path, path.read_text(encoding="utf-8")


def test_the_page_is_whole_and_fetches_nothing(made) -> None:
    _, _, text = made
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(value.startswith(("data:", "#")) for value in tags.fetched)
    assert not re.search(r"url\((?!#)", text)
    assert len(tags.ids) == len(set(tags.ids))
    assert {link[1:] for link in tags.links if link.startswith("#")} <= set(tags.ids)


def test_every_figure_claim_and_gate_is_told(made) -> None:
    results, _, text = made
    for figure in results.figures:
        assert f'id="figure-{figure.id}"' in text
        assert figure.title in text
    assert "Lower is nearer." in text
    assert "Not drawn: it needs the base ink" in text
    assert "bear* in" in text
    assert "Where the concept" in text
    assert "shrunk" not in text
    assert "Text similarity as a share of what" in text


def test_the_verdicts_come_first_with_their_intervals(made) -> None:
    results, _, text = made
    table = text[text.index("What holds here") : text.index('id="figure-6"')]
    (claim,) = [claim for figure in results.figures for claim in figure.claims]
    assert f'class="chip {claim.verdict}"' in table
    for value in (claim.difference.value, claim.difference.low, claim.difference.high):
        assert told(claim.metric, value, signed=True) in table
    assert text.index('id="figure-6"') < text.index('class="plot"')


def test_every_picture_says_what_it_is_to_those_who_do_not_see_it(made) -> None:
    _, _, text = made
    tags = Tags()
    tags.feed(text)
    pictures = [dict(attributes) for tag, attributes in tags.all if tag == "img"]
    assert all(picture["alt"] for picture in pictures)
    assert "“a bear* in the snow”, local at 0.5, seed 0" in {picture["alt"] for picture in pictures}
    # Both concepts of a prompt are shown as they were learned from.
    assert {f"{name}, as it was learned from" for name in ("bear", "jug")} <= {p["alt"] for p in pictures}
    plots = [
        dict(attributes) for tag, attributes in tags.all if tag == "svg" and ("role", "img") in attributes
    ]
    assert len(plots) == 3
    assert all("Plot of figure" in plot["aria-label"] for plot in plots)
    heads = [dict(attributes) for tag, attributes in tags.all if tag == "th"]
    assert all(head["scope"] in ("col", "row") for head in heads)


def test_plots_are_written_and_follow_the_pages_ink(made) -> None:
    _, path, text = made
    for name in ("6", "A.1", "5"):
        assert (path.parent / "plots" / f"figure-{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert text.count('class="plot"') == 3
    assert "var(--ink)" in text.split("</head>")[1]


def test_words_of_a_suite_cannot_be_markup(made, smoke: Smoke, tmp_path) -> None:
    results, path, _ = made
    hostile = results.model_copy(
        update={"suite": results.suite.model_copy(update={"title": "<script>alert(1)</script>"})}
    )
    (tmp_path / "pictures").symlink_to(path.parent / "pictures")
    for name in ("references", "attention"):
        (tmp_path / name).symlink_to(path.parent / name)
    text = write_report(hostile, tmp_path).read_text(encoding="utf-8")
    assert "<script>" not in text


def test_a_missing_picture_is_an_error_with_a_next_step(made, tmp_path) -> None:
    results, _, _ = made
    with pytest.raises(PerfError, match="cannot be shown") as error:
        write_report(results, tmp_path)
    assert "perf evaluate" in (error.value.hint or "")
