"""Tables in a terminal of 80 columns: no word and no hash is broken."""

from __future__ import annotations

import pytest
from rich.console import Console

from perfusion_registry.cli import console

HASH = "SHA256:" + "k" * 43
SENTENCE = "a registry answers with other bytes than were locked, so nothing of it is taken from there"


@pytest.mark.parametrize(
    "rows",
    [
        [["bear", "1.0.0", SENTENCE]],
        [["ok", "store", "/root/a-folder/with-a-long-name/that-nobody/would-type, 12.3 GB free"]],
        [["bear", "https://studio.example/concepts/of-everybody", HASH], ["cat", "x", HASH]],
        [["bear" * 10, "1.0.0", "a few words"], ["cat", "2.0.0" * 8, HASH]],
    ],
)
def test_no_word_is_broken(
    rows: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Console(force_terminal=True, width=80, highlight=False, color_system=None)
    monkeypatch.setattr(console, "stdout", lambda: terminal)
    console.say_table(["concept", "version", "what"], rows)
    printed = capsys.readouterr().out.split()
    for row in rows:
        for word in " ".join(row).split():
            assert word in printed
