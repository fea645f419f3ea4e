"""The interface for machines and people: help, JSON, completion, and text that must not steer a terminal."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from perfusion_registry import __version__
from perfusion_registry.cli import app
from perfusion_registry.cli.help import PANELS
from perfusion_registry.cli.overview import COMMANDS, overview
from tests.cli.running import Perf, edit, perf_process
from tests.operations.stand_in import stand_in

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


def test_the_overview_is_that_of_the_commands() -> None:
    group = get_command(app)
    assert [row[0] for row in COMMANDS] == list(group.commands)  # type: ignore[attr-defined]
    for name, _, _, told in COMMANDS:
        command = group.commands[name]  # type: ignore[attr-defined]
        assert (command.help or "").split("\n")[0] == told, name
    assert max(map(len, overview().split("\n"))) <= 80


ABOUT_THE_COMMAND = {"--dry-run", "--force", "--limit", "--out", "--registry", "--scene", "--seed", "--seeds"}
ABOUT_THE_COMMAND |= {"--sheet", "--steps"}
"""Options that have to say what they are for this very command."""


def test_an_option_is_told_in_the_same_words_everywhere(perf: Perf) -> None:
    told: dict[tuple[str, str | None], set[str]] = {}
    for path, command in leaves(get_command(app)).items():
        shown = perf(*path, "--help").out
        assert max(map(len, shown.split("\n"))) <= 100, path
        assert re.search(r" <[a-z]", shown) is None, path
        panels = {line for line in shown.split("\n") if re.fullmatch(r"[A-Z][A-Za-z ]+:", line)}
        assert panels <= {"Arguments:", *(f"{panel}:" for panel in PANELS)}, path
        for parameter in command.params:
            one_value = ",..." not in (parameter.metavar or "")
            if (
                parameter.param_type_name == "option"
                and one_value
                and not ABOUT_THE_COMMAND & {*parameter.opts}
            ):
                told.setdefault((parameter.opts[0], parameter.metavar), set()).add(parameter.help)
    assert {option: helps for option, helps in told.items() if len(helps) > 1} == {}


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        perf_process(*arguments),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_an_option_without_its_value_is_told_as_a_mistake_in_that_command(perf: Perf) -> None:
    tried = 0
    for path, command in leaves(get_command(app)).items():
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.is_flag and not parameter.count:
                said = perf(*path, parameter.opts[0])
                assert said.code == 2, said
                assert f"perf {' '.join(path)}" in said.err, said
                assert "Traceback" not in said.err, said
                tried += 1
    assert tried > 100


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
        file.write('\n[registries]\nstudio = "gallery"\n')
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
        ["list", "--outdated"],
        ["tree"],
        ["info", "bear"],
        ["info", "studio/bear"],
        ["lock"],
        ["lock", "--check"],
        ["search"],
        ["vendor"],
        ["build"],
        ["build", "--dry-run"],
        ["explain", "--presets"],
        ["evaluate", "list"],
        ["key", "new"],
        ["render", "--help"],
        ["init", "another"],
        ["remove", "bear"],
    )
    program = (
        "import json, sys; from perfusion_registry.cli.application import application\n"
        "from typer.main import get_command\n"
        "perf = get_command(application())\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    try: perf(command)\n"
        "    except SystemExit as end: assert not end.code, (command, end.code)\n"
        "    assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), command"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(story)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


MISTAKES = (
    ["render"],
    ["render", "a bear*", "--bogus"],
    ["render", "a bear*{bias=x}"],
    ["render", "a bear*", "--bias", "x"],
    ["render", "a bear*", "--bias", "other=.5"],
    ["render", "a bear*", "--size", "x"],
    ["render", "a bear*", "--size", "9x9"],
    ["render", "a bear*", "--steps", "0"],
    ["render", "a bear*", "--scheduler", "x"],
    ["render", "a bear*", "--negative", "a bear*"],
    ["render", "a bear*", "--device", "quantum"],
    ["render", "a bear*", "--dtype", "fp4"],
    ["render", "a bear*", "--out", "x.bmp"],
    ["render", "a bare*"],
    ["render", "--scene", "nowhere"],
    ["render", "--from", "photos/1.png"],
    ["render", "--from", "gone.png"],
    ["render", "--composition", "gone.json"],
    ["render", "a bear*", "--with", "gone.safetensors"],
    ["sweep", "a bear*", "--bias", "0.5,x"],
    ["sweep", "a bare*"],
    ["sweep", "a hat"],
    ["tune", "a bear*", "--lock", "x"],
    ["tune", "--scene", "nowhere"],
    ["tune", "a bare*"],
    ["tune", "a hat"],
    ["compose", "a bare*"],
    ["explain", "a bear*{bias"],
    ["build", "bare"],
    ["build", "--super", "bear"],
    ["build", "--device", "quantum"],
    ["verify", "bear"],
    ["verify", "--rebuild", "bare"],
    ["covariance", "gone.txt", "--out", "D.safetensors"],
    ["suggest-super", "gone.png"],
    ["evaluate", "nowhere"],
    ["evaluate", "paper", "--jobs", "0"],
    ["buidl"],
    ["--bogus"],
)


def test_mistakes_are_told_before_torch_is_imported(project: Path) -> None:
    stand_in(project)
    program = (
        "import json, sys; from perfusion_registry.cli.application import application\n"
        "from typer.main import get_command\n"
        "perf = get_command(application())\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    try: perf(command)\n"
        "    except SystemExit as end: assert end.code == 2, (command, end.code)\n"
        "    assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), command"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(MISTAKES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == len(MISTAKES)
    # What the artifact decides needs it read, but no base.
    late = [["render", "a bear*", "--lock", "none"], ["render", "a bear*", "--residual", "bear=1"]]
    done = subprocess.run(
        [sys.executable, "-c", program.replace("'torch', ", ""), json.dumps(late)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in ("perfusion.toml", "perfusion.lock"):
        (project / name).unlink()
    begins = [["render", "x"], ["sweep", "x"], ["tune", "x"], ["compose", "x"], ["explain", "x"], ["build"]]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(begins)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("There is no perfusion.toml") == len(begins)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_is_quiet_from_the_first_line_on(place: Path) -> None:
    """`main` imports nothing before Ctrl-C is quiet, and from then on it is at every moment."""
    program = (
        "import signal, sys, perfusion_registry.cli.interrupt; from perfusion_registry.cli import main\n"
        "def watch(event, arguments):\n"
        "    if event == 'import' and signal.getsignal(signal.SIGINT) is signal.default_int_handler:\n"
        "        print('imported too early:', arguments[0]); sys.stdout.flush()\n"
        "sys.argv = ['perf', '--help']; sys.addaudithook(watch); main()"
    )
    # Tests that run in the background inherit that SIGINT is ignored.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, preexec_fn=heard
    )
    assert (said.returncode, said.stdout) == (0, overview())
    program = (
        "from perfusion_registry.cli.interrupt import leave_quietly; leave_quietly()\n"
        "print('begun', flush=True)\n"
        "from perfusion_registry.cli import main; main()"
    )
    codes = []
    for moment in (0, 0.03, 0.08, 0.15, 0.3):
        started = subprocess.Popen(
            [sys.executable, "-c", program, "list"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heard,
        )
        assert started.stdout is not None
        assert started.stdout.readline() == "begun\n"
        time.sleep(moment)
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
        codes.append(started.returncode)
        # At its very end Python gives the signal back: then the system ends the process, as silently.
        assert started.returncode in (130, -signal.SIGINT, 2), err
        assert "Traceback" not in err
        assert "Exception" not in err
        if started.returncode != 2:
            assert err in ("", "interrupted\n") or err.startswith("error: ")
    assert codes[0] == 130


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("ignored", "sent", "code"),
    [("SIGINT", "SIGTERM", 143), ("SIGTERM", "SIGINT", 130), ("SIGUSR1", "SIGTERM", 143)],
)
def test_each_signal_counts_where_the_other_is_ignored(ignored: str, sent: str, code: int) -> None:
    """A job in the background ignores Ctrl-C; a scheduler ends it all the same."""
    program = (
        "import signal, time; from perfusion_registry.cli.interrupt import interruptible, leave_quietly\n"
        f"signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"signal.signal(signal.{ignored}, signal.SIG_IGN)\n"
        "leave_quietly()\n"
        "try:\n"
        "    with interruptible():\n"
        "        print('begun', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt: print('cleaned up', flush=True)\n"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "begun\n"
        for answer in ("cleaned up\n", ""):
            started.send_signal(getattr(signal, ignored))
            started.send_signal(getattr(signal, sent))
            assert started.stdout.readline() == answer
    assert started.returncode == code


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
    scene = '\n[registries]\nstudio = "gallery"\n[scenes.snow]\nprompt = "a bear* in \\u001b[31m the snow"\n'
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
        file.write('\n[registries]\nstudio = "gallery"\n')
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
    assert not any("next:" in told for _, told in found.values())  # each says it once, in its hint
    assert "BROKEN" in perf("doctor").out
    monkeypatch.setenv("PERF_CACHE_DIR", "/proc/nothing")
    assert findings(perf)["store"][0] == "broken"
    monkeypatch.chdir("/")
    assert findings(perf)["project"][0] == "note"


def test_a_base_that_cannot_be_trained_on_is_told_by_doctor_lock_and_build(
    perf: Perf, project: Path, tiny_base_folder: Path
) -> None:
    base = shutil.copytree(tiny_base_folder, project / "base")
    scheduler = {"_class_name": "EDMEulerScheduler", "num_train_timesteps": 1000}
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    edit(project / "perfusion.toml", f'"{tiny_base_folder}"', '"./base"')
    state, told = findings(perf)["training"]
    assert (state, "EDMEulerScheduler, has no chain" in told) == ("broken", True)
    for command in ("lock", "build"):
        refused = perf(command)
        assert refused.code == 2
        assert "No concept can be trained on this base" in refused.err
    assert not (project / "perfusion.lock").exists()
    # Concepts of others can be locked and drawn on it all the same.
    assert perf("remove", "bear").code == 0
    assert perf("lock").code == 0


def test_doctor_advises_on_git(perf: Perf, project: Path) -> None:
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    assert findings(perf)["git"][0] == "ok"  # by the .gitignore of `perf init`
    for ignored, told in {
        "out/\n": "writes to renders/ would",
        "": "writes to renders/ and out/ would",
    }.items():
        (project / ".gitignore").write_text(ignored)
        assert told in findings(perf)["git"][1]
    # A lockfile that names nothing which others could fetch need not be shared.
    (project / ".gitignore").write_text("perfusion.lock\nout/\nrenders/\n")
    assert findings(perf)["git"][0] == "ok"
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "gallery"\n')
    assert "nobody else gets these bytes" in findings(perf)["git"][1]
