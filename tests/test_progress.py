"""The reporter that programs and commands share."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import perfusion_registry as perf
from perfusion_registry import progress


def test_a_program_without_a_terminal_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        reporter: perf.Reporter = perf.terminal_reporter(quiet)
        with reporter.stage("building teddy", 2) as stage:
            stage.advance(2, "loss 0.1")
        reporter.note("kept step 40")
        reporter.warn("a\x1b[31mred")
        out, err = capsys.readouterr()
        assert out == ""
        assert ("building teddy ..." in err, "kept step 40" in err) == (not quiet, not quiet)
        assert "warning: a\\x1b[31mred" in err


@pytest.mark.parametrize("title", ["teddy: training", "grandmother's teapot: choosing the best step of all"])
def test_a_bar_is_one_line_of_a_terminal(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr(progress, "stderr", lambda: screen)
    bars = progress._Bars()
    with bars.stage(title, 200, then=40.0) as stage:
        for _ in range(3):
            stage.advance(1, "loss 0.2345, and what else a step has to say [of itself] in a line")
        assert bars._progress is not None
        drawn = screen.render_lines(bars._progress.get_renderable())
    assert [sum(len(piece.text) for piece in line) <= 80 for line in drawn] == [True]
    text = "".join(piece.text for piece in drawn[0])
    assert "loss" in text or "choosing" in text
