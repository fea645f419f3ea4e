"""The reporter that programs and commands share."""

from __future__ import annotations

import pytest

import perfusion_registry as perf


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
