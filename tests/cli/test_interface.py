"""The interface for machines and people: help, JSON, completion, and text that must not steer a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from perfusion_registry import __version__
from perfusion_registry.cli import app
from perfusion_registry.cli.help import PANELS
from perfusion_registry.cli.overview import COMMANDS, overview
from tests.cli.conftest import Perf, outputs, perf_process
from tests.cli.stand_in import stand_in
from tests.cli.test_publish import edit

ROOT = Path(__file__).parents[2]


def leaves(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command that does something, by its words."""
    if not hasattr(command, "commands"):
        return {path: command}
    found = {}
    for name, inner in command.commands.items():
        found |= leaves(inner, (*path, name))
    return found


def test_every_command_speaks_json_and_says_what_it_does() -> None:
    commands = leaves(get_command(app))
    assert len(commands) > 25
    for path, command in commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, path
        assert command.help, path
        for parameter in command.params:
            assert parameter.help, (path, parameter.name)


def test_every_schema_that_a_command_names_is_in_the_schemas() -> None:
    sources = (ROOT / "perfusion_registry" / "cli").glob("*.py")
    named = {
        name for path in sources for name in re.findall(r'"(perf\.[a-z-]+/\d+)"', path.read_text("utf-8"))
    }
    mapping = outputs().schema["discriminator"]["mapping"]
    assert named == set(mapping)


def test_the_overview_is_that_of_the_commands() -> None:
    group = get_command(app)
    assert [row[0] for row in COMMANDS] == list(group.commands)  # type: ignore[attr-defined]
    for name, _, _, told in COMMANDS:
        command = group.commands[name]  # type: ignore[attr-defined]
        assert (command.help or "").split("\n")[0] == told, name
    assert max(map(len, overview().split("\n"))) <= 80


def test_an_option_means_the_same_everywhere(perf: Perf) -> None:
    """Options that several commands have by one name and kind of value are told in the same words, and every
    panel is one of a few."""
    may_differ = {"--out", "--registry", "--base", "--scene", "--sheet", "--dry-run", "--super", "--force"}
    may_differ |= {"--limit", "--version", "--images", "--seed", "--seeds", "--steps", "--prompts"}
    told: dict[tuple[str, str | None], set[str]] = {}
    for path, command in leaves(get_command(app)).items():
        shown = perf(*path, "--help").out
        assert max(map(len, shown.split("\n"))) <= 100, path
        assert "<" not in shown, path
        panels = {line for line in shown.split("\n") if re.fullmatch(r"[A-Z][A-Za-z ]+:", line)}
        assert panels <= {"Arguments:", *(f"{panel}:" for panel in PANELS)}, path
        for parameter in command.params:
            for option in set(parameter.opts) - may_differ:
                told.setdefault((option, parameter.metavar), set()).add(parameter.help)
    assert {option: helps for option, helps in told.items() if len(helps) > 1 and option[0][0] == "-"} == {}


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        perf_process(*arguments),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_help_comes_without_importing_anything(place: Path) -> None:
    said = process("--help")
    assert (said.returncode, said.stdout, said.stderr) == (0, overview(), "")
    assert process("-h").stdout == overview()
    assert process().returncode == 2
    assert process("--version").stdout == f"perf {__version__}\n"
    program = (
        "import sys; sys.argv = ['perf', '--help']\n"
        "from perfusion_registry.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'typer', 'rich', 'pydantic', 'packaging', 'platformdirs', 'torch'}, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_commands_without_a_model_import_no_torch(perf: Perf, project: Path) -> None:
    """As processes of their own: what one command imports must not hide in what another did."""
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "shelf"\n')
    edit(project / "recipes" / "bear.toml", "[concept]\n", '[concept]\nlicence = "CC0"\nauthors = ["A"]\n')
    stand_in(project)
    story = (
        ["publish", "bear"],
        ["yank", "bear==1.0.0"],
        ["unyank", "bear==1.0.0"],
        ["verify"],
        ["metadata", "--format-version", "1"],
        ["cache", "size"],
        ["cache", "verify"],
        ["cache", "prune"],
        ["key", "list"],
        ["sync"],
        ["list"],
        ["lock", "--check"],
        ["search"],
    )
    program = (
        "import json, sys; from perfusion_registry.cli.application import application\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    try: application()(command)\n"
        "    except SystemExit as end: assert not end.code, (command, end.code)\n"
        "    assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), command"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(story)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def complete(words: str) -> list[str]:
    """What bash would offer; it starts the command without arguments."""
    program = "from perfusion_registry.cli import main; import sys; sys.argv = ['perf']; main()"
    place = str(len(words.split(" ")) - 1)
    asked = {"_PERF_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    said = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **asked},
    )
    assert said.stderr == ""
    assert "\x1b" not in said.stdout
    return said.stdout.split()


def test_the_shell_completes_commands_concepts_and_scenes(project: Path) -> None:
    text = (project / "perfusion.toml").read_text(encoding="utf-8")
    scene = '\n[registries]\nstudio = "shelf"\n[scenes.snow]\nprompt = "a bear* in \\u001b[31m the snow"\n'
    (project / "perfusion.toml").write_text(text + scene, encoding="utf-8")
    assert complete("perf ver") == ["verify"]
    assert complete("perf build ") == ["bear"]
    assert complete("perf publish b") == ["bear"]
    assert complete("perf render --scene s") == ["snow"]
    assert complete("perf publish bear --registry ") == ["studio"]
    assert complete("perf build x") == []
    (project / "perfusion.toml").write_text("broken [", encoding="utf-8")
    assert complete("perf build ") == []


HOSTILE = {
    "a terminal escape": "\\u001b[2J\\u001b]0;owned\\u0007",
    "a C1 escape": "\\u009b31m",
    "bidi controls": "\\u202egnp.exe\\u2066",
    "markup": "[bold red]x[/] [link=https://evil.example]y[/link]",
    "line ends": "fine\\r\\n  licence      MIT\\u2028\\u0085",
    "a null and a delete": "\\u0000\\u007f\\u0008",
    "invisible letters": "\\u200b\\ufeff\\U000e0041",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_text_from_others_never_steers_the_terminal(perf: Perf, project: Path, kind: str) -> None:
    """A card in which every text is hostile, through every command that shows some of it."""
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "shelf"\n')
    text = HOSTILE[kind]
    fields = "".join(f'{field} = "{text}"\n' for field in ("licence", "consent", "description"))
    edit(project / "recipes" / "bear.toml", "[concept]\n", f'[concept]\n{fields}authors = ["{text}"]\n')
    stand_in(project)
    story = [
        ["publish", "bear", "--dry-run"],
        ["publish", "bear"],
        ["publish", "bear", "--json"],
        ["yank", "bear==1.0.0", "--reason", json.loads(f'"{text}"') if "\\U" not in text else text],
        ["info", "studio/bear"],
        ["info", "studio/bear", "--json"],
        ["search"],
        ["search", "--json"],
        ["list", "--outdated"],
        ["verify"],
        ["metadata"],
        ["metadata", "--json", "--format-version", "1"],
    ]
    for command in story:
        said = perf(*command)
        assert said.code == 0, (command, said.err)
        for shown in (said.out, said.err):
            bad = {character for character in shown if not character.isprintable() and character != "\n"}
            assert not bad, (command, bad)
            assert "\n  licence      MIT" not in shown
        if kind == "markup" and command[-1] == "--dry-run":
            assert "[bold red]x[/]" in said.out
        if "--json" in command:
            assert said.json["schema"]


def test_metadata_tells_all_of_a_project_and_what_is_wrong_with_it(perf: Perf, project: Path) -> None:
    said = perf("metadata", "--format-version", "1")
    assert said.err == ""
    (row,) = said.json["concepts"]
    assert (row["name"], row["state"], row["why"]) == ("bear", "to-build", "never built")
    assert row["recipe"] == str(project / "recipes" / "bear.toml")
    assert said.json["lock"] is None
    sha256 = stand_in(project)
    told = perf("metadata", "--format-version", "1").json
    (row,) = told["concepts"]
    assert (row["state"], row["sha256"]) == ("built", sha256)
    assert Path(row["artifact"]).is_file()
    assert told["lock"]["concept"][0]["sha256"] == sha256
    assert told["base"]["problem"] is None
    edit(project / "recipes" / "bear.toml", 'supercategory = "teddy"', "supercategory = 1")
    edit(project / "perfusion.toml", "C.safetensors", "gone")
    told = perf("metadata", "--format-version", "1").json
    assert told["concepts"][0]["state"] == "unknown"
    assert "supercategory" in told["problems"][0]
    assert told["base"]["problem"] == "there is no covariance file here"
    assert "give --format-version 1" in perf("metadata").err
    assert perf("metadata", "--format-version", "2").code == 2


def findings(perf: Perf, *arguments: str) -> dict[str, tuple[str, str]]:
    said = perf("doctor", "--json", *arguments)
    rows = {row["what"]: (row["state"], row["told"]) for row in said.json["findings"]}
    assert said.code == (1 if any(state == "broken" for state, _ in rows.values()) else 0)
    return rows


def test_doctor_finds_what_is_broken(perf: Perf, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(perf)
    assert {what: state for what, (state, _) in found.items() if state != "ok"} == {"lockfile": "note"}
    sha256 = stand_in(project)
    assert all(state == "ok" for state, _ in findings(perf).values())
    assert "BROKEN" not in perf("doctor").out
    (project / "store" / "artifacts" / sha256[:2] / f"{sha256}.safetensors").write_bytes(b"x")
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "nowhere"\nfar = "https://127.0.0.1:9/x"\n')
    edit(project / "recipes" / "bear.toml", 'version = "1.0.0"', 'version = "2.0.0"')
    (project / "C.safetensors").unlink()
    found = findings(perf)
    broken = {what for what, (state, _) in found.items() if state == "broken"}
    assert broken == {"covariance", "lockfile", "artifacts", "registry studio"}
    assert "not asked" in found["registry far"][1]
    assert "BROKEN" in perf("doctor").out
    monkeypatch.setenv("PERF_CACHE_DIR", "/proc/nothing")
    assert findings(perf)["store"][0] == "broken"
    monkeypatch.chdir("/")
    assert findings(perf)["project"][0] == "note"


def test_doctor_advises_on_git(perf: Perf, project: Path) -> None:
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    (project / ".gitignore").write_text("perfusion.lock\nout/\n")
    assert "nobody else gets these bytes" in findings(perf)["git"][1]
    (project / ".gitignore").write_text("out/\n")
    assert findings(perf)["git"][0] == "ok"
