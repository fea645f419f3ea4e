"""Lines of a terminal are wrapped between words; a command that is to be copied stays whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from perfusion_registry.cli import console
from perfusion_registry.errors import PerfError
from perfusion_registry.wrapping import hanging

SENTENCE = "pictures of this base are of 128 pixels a side, and larger ones are drawn anew at twice the size"


def test_no_word_is_broken_and_nothing_is_lost() -> None:
    told = hanging(SENTENCE, 40)
    lines = told.split("\n")
    assert max(map(len, lines)) <= 40
    assert [line[:2].strip() == "" for line in lines] == [False] + [True] * (len(lines) - 1)
    assert " ".join(told.split()) == SENTENCE
    assert hanging(SENTENCE, None) == SENTENCE
    assert hanging("  a line\nand another", 80) == "  a line\nand another"


def test_lines_go_on_to_the_right_of_where_they_begin() -> None:
    lines = hanging(f"  {SENTENCE}", 40, 5).split("\n")
    assert lines[0].startswith("  p")
    assert all(line.startswith(" " * 7) for line in lines[1:])
    wide = hanging("熊" * 18 + " " + "熊" * 18, 40).split("\n")
    assert [cell_len(line) for line in wide] == [36, 38]


@pytest.mark.parametrize(
    "command", ["`perf build teddy --force --device cpu`", "perf render 'a teddy*' --count 6 --sheet x.png"]
)
def test_a_command_stays_whole(command: str) -> None:
    told = hanging(f"what it was built from has changed: run {command}", 60)
    assert command in told
    assert "\n" in told


def test_a_terminal_of_80_columns_gets_whole_words(tmp_path: Path) -> None:
    """An error with a long hint, through a real terminal."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    program = (
        "from perfusion_registry.cli import console\n"
        "from perfusion_registry.errors import PerfError\n"
        f"console.show_error(PerfError('it is not so', where='here', hint={SENTENCE * 2!r}))\n"
        f"console.reporter(quiet=True).warn({SENTENCE!r})\n"
        f"console.say({SENTENCE!r})\n"
    )
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    run = [sys.executable, "-c", program]
    with subprocess.Popen(run, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the end, as Linux tells it
                break
            if not part:
                break
            said += part
    os.close(ours)
    assert process.returncode == 0, said
    lines = re.sub(r"\x1b\[\d*m|\r", "", said.decode()).splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(line.strip() for line in lines).split()
    for word in SENTENCE.split():
        assert words.count(word) >= 3 * SENTENCE.split().count(word), word


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("there is no picture", "There is no picture"),
        ("cat.png is no picture", "cat.png is no picture"),
        ("owner/name is gated", "owner/name is gated"),
        ("mask_1 is no picture", "mask_1 is no picture"),
        ("`teddy` is not built", "`teddy` is not built"),
        ("masks, and others, are missing", "Masks, and others, are missing"),
        ("perf has no backend for it", "perf has no backend for it"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_unless_with_a_name(
    what: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    console.show_error(PerfError(what))
    assert capsys.readouterr().err == f"error: {said}\n"
