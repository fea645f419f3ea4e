"""Tables and facts in a terminal of 80 columns: no word and no hash is broken."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console

from perfusion_registry.cli import console
from perfusion_registry.cli.facts import say_facts

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


def test_facts_have_room_for_a_hash_and_wrap_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {
        "description": SENTENCE,
        "sha256": "7" * 64,
        "consent": "熊" * 30 + " " + "熊" * 10,
        "base": None,
    }
    terminal = Console(force_terminal=True, width=80, highlight=False, color_system=None)
    with monkeypatch.context() as patch:
        patch.setattr(console, "stdout", lambda: terminal)
        say_facts(facts | {"authors": f"you\n  licence       MIT\x1b[2J\u2028{SENTENCE}"})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) == 80
    assert [line[2:15].strip() for line in lines if line[2] != " "] == [
        "description", "sha256", "consent", "authors"
    ]  # fmt: skip
    assert " ".join(line[16:] for line in lines[:2]) == SENTENCE
    assert not any("\x1b" in line for line in lines)
    say_facts(facts)  # a pipe gets what a program can search in
    assert [line[16:] for line in capsys.readouterr().out.splitlines()] == [*facts.values()][:-1]
