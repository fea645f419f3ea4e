"""`perf build` from end to end on the tiny base, in this process and in others."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from perfusion_registry.artifact import Store, load_artifact
from perfusion_registry.recipe import read_lockfile
from tests import forked
from tests.cli.running import Perf, edit, perf_process, run_process


def test_a_build_and_everything_after_it(perf: Perf, project: Path, tiny_base_folder: Path) -> None:
    """One story, since the first step of it is the slow one."""
    store, lock, recipe = (
        Store(project / "store"),
        project / "perfusion.lock",
        project / "recipes" / "bear.toml",
    )

    planned = perf("build", "--dry-run")
    assert planned.out == "Would build bear 1.0.0: never built; 4 steps\n"
    assert not lock.exists()

    first = perf("build", "--json")
    assert first.code == 0, first.err
    (row,) = first.json["built"]
    assert (row["name"], row["trained"], row["reason"]) == ("bear", True, "never built")
    data = store.get(row["sha256"])
    built = load_artifact(data)
    assert len(data) == row["size"] < 40_000
    assert (built.card.name, built.card.supercategory, built.card.version) == ("bear", "teddy", "1.0.0")
    (locked,) = read_lockfile(lock).concepts
    assert (locked.sha256, locked.size) == (row["sha256"], row["size"])
    assert locked.recipe_digest == built.card.recipe_digest
    assert perf("lock", "--check").code == 0

    text = lock.read_bytes()
    again = perf("build")
    assert again.out.startswith("Nothing to build: 1 concept is up to date (")
    assert perf("build", "--json").json["up_to_date"] == ["bear"]
    assert lock.read_bytes() == text
    assert "built" in perf("list").out
    lock.unlink()  # no prompt can call it, and a build only locks it
    assert "built, to lock: perf build" in perf("list").out
    assert perf("build").out.startswith("Nothing to build")
    assert lock.read_bytes() == text
    assert "to lock" not in perf("list").out

    # What only the card says needs no training: the tensors are the same, the bytes are not.
    recipe.write_text(recipe.read_text(encoding="utf-8") + "\n[render]\nbias = 0.5\n", encoding="utf-8")
    (row,) = perf("build", "--json").json["built"]
    assert (row["trained"], row["reason"]) == (False, "render options changed")
    restamped = load_artifact(store.get(row["sha256"]))
    assert restamped.card.render.bias == 0.5
    assert all(restamped.tensors[key].equal(value) for key, value in built.tensors.items())
    edit(recipe, "\n[render]\nbias = 0.5\n", "")
    assert perf("build").out.startswith("Nothing to build")
    assert lock.read_bytes() == text

    # The lockfile of somebody else's machine: --locked refuses, a plain build replaces and says so.
    edit(lock, locked.sha256 or "", "0" * 64)
    refused = perf("build", "--locked")
    assert refused.code == 1
    assert "not those locked" in refused.err
    replaced = perf("build")
    assert replaced.code == 0
    assert "not those locked (000000000000" in replaced.err
    assert lock.read_bytes() == text

    # From nothing, the same bytes; a damaged artifact is built again.
    store.path(locked.sha256 or "").write_bytes(b"damaged")
    (row,) = perf("build", "--json").json["built"]
    assert (row["trained"], row["sha256"]) == (True, locked.sha256)
    assert perf("build", "--locked").code == 0

    # The same base with a model card beside it: the card tells its licence, and nothing is trained.
    assert perf("info", "bear", "--json").json["base_licence"] is None
    shutil.copytree(tiny_base_folder, project / "base")
    (project / "base" / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    edit(project / "perfusion.toml", str(tiny_base_folder), "./base")
    (row,) = perf("build", "--json").json["built"]
    assert (row["trained"], row["reason"]) == (False, "its card changed")
    assert load_artifact(store.get(row["sha256"])).card.base_licence == "mit"
    assert perf("info", "bear", "--json").json["base_licence"] == "mit"


def test_locked_refuses_a_stale_lockfile_before_any_work(perf: Perf, project: Path) -> None:
    said = perf("build", "--locked")
    assert said.code == 1
    assert "`bear` is not locked yet" in said.err
    assert not (project / "perfusion.lock").exists()


def test_pictures_that_cannot_be_used_are_told_together_before_a_base_is_loaded(
    perf: Perf, project: Path
) -> None:
    photos = project / "photos"
    before = len(list(photos.iterdir()))
    Image.new("RGBA", (40, 40)).save(photos / "clear.png")
    (photos / "text.png").write_bytes(b"no picture")
    said = perf("build")
    assert said.code == 2
    assert f"2 of {before + 2} pictures cannot be used" in said.err
    assert "clear.png: The image is wholly transparent" in said.err
    assert "text.png: The file is not an image" in said.err
    assert "Loading" not in said.err
    # What is told by names and first bytes alone stands beside what is found by reading.
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    (photos / "empty.png").touch()
    cut = next(photo for photo in photos.iterdir() if photo.suffix == ".JPG").read_bytes()
    (photos / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    for asked in (
        ("build",),
        ("add", "other", "--super", "teddy", "--images", "photos/*"),
        ("suggest-super", "photos"),
    ):
        told = " ".join(perf(*asked).err.split())
        assert "5 mistakes in the pictures" in told
        for name in ("clear.png", "text.png", "phone.heic", "empty.png", "cut.jpg"):
            assert name in told


def test_mistakes_are_told_before_a_base_is_loaded(perf: Perf, project: Path) -> None:
    assert "did you mean `bear`?" in perf("build", "baer").err
    edit(project / "recipes" / "bear.toml", "[concept]", "[concept]\nimagse = 1")
    said = perf("build")
    assert said.code == 2
    assert "unknown key; did you mean `images`?" in said.err
    assert "recipes/bear.toml:4, concept.imagse" in "".join(said.err.split("\n"))


def test_commands_without_a_model_import_no_torch_and_are_quick(project: Path) -> None:
    for command in (["--help"], ["list"], ["lock"], ["build", "--dry-run"], ["lock", "--check"]):
        program = (
            "import sys; from perfusion_registry.cli import app\n"
            f"try: app({command!r})\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_says_that_it_resumes_and_holds_nothing(
    project: Path, number: signal.Signals, code: int
) -> None:
    recipe = project / "recipes" / "bear.toml"
    edit(recipe, "[train]", "[train]\nsteps = 3000")
    with forked.Popen(
        perf_process("build"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as build:
        assert build.stderr is not None
        for line in build.stderr:
            if "training" in line:
                break
        time.sleep(0.5)
        build.send_signal(number)
        out, err = build.communicate(timeout=300)
    assert build.returncode == code
    assert out == ""
    assert err.strip().split("\n")[-1] == "interrupted; run the same `perf build` again to resume"
    assert "Traceback" not in err
    assert not (project / "perfusion.lock").exists()
    assert Store(project / "store").lookup("1" * 64) is None
    assert not list((project / "store").rglob("*.safetensors.tmp"))


def test_a_reader_that_leaves_early_is_no_error(project: Path) -> None:
    for words in (("list", "--json"), ("--help",), ("--version",), ("build", "--help")):
        command = " ".join(f"'{part}'" for part in perf_process(*words))
        run = subprocess.run(f"{command} | true", shell=True, capture_output=True, text=True, check=False)
        assert run.stderr == "", words


def test_an_error_from_outside_cannot_steer_the_terminal(perf: Perf, project: Path) -> None:
    edit(project / "recipes" / "bear.toml", "[concept]", '[concept]\nlicence = "\\u001b[31m[bold]x"\nbad = 1')
    edit(project / "recipes" / "bear.toml", 'supercategory = "teddy"', 'supercategory = "\\u001b[2J*[red]"')
    said = perf("list")
    assert "\x1b" not in said.out + said.err
    assert "\\x1b[2J*[red]" in said.err


def test_no_color_is_honoured(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (4, 4)).save(project / "photos" / "4.png")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1;31m" in run_process("build", "nobody").err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in run_process("build", "nobody").err


@pytest.fixture
def three(project: Path) -> Path:
    """A project of three concepts that are not built, with other seeds."""
    recipe = (project / "recipes" / "bear.toml").read_text(encoding="utf-8")
    entries = []
    for number, name in enumerate(("bear", "cub", "paw")):
        text = recipe.replace('name = "bear"', f'name = "{name}"')
        text = text.replace("[train]", f"[train]\nsteps = 2\nvalidate_every = 2\nseed = {number}")
        (project / "recipes" / f"{name}.toml").write_text(text, encoding="utf-8")
        entries.append(f'{name} = {{ recipe = "recipes/{name}.toml" }}\n')
    edit(project / "perfusion.toml", 'bear = { recipe = "recipes/bear.toml" }\n', "".join(entries))
    return project


@pytest.mark.slow
def test_several_builds_at_once_are_as_one_after_the_other(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the bytes depend on it
    alone = run_process("build", "--json")
    assert alone.code == 0, alone.err
    lock = (three / "perfusion.lock").read_bytes()
    (three / "perfusion.lock").unlink()
    monkeypatch.setenv("PERF_CACHE_DIR", str(three / "another store"))
    many = run_process("build", "--json", "--jobs", "2")
    assert many.code == 0, many.err
    for name in ("bear", "cub", "paw"):
        assert f"{name}: training" in many.err
    assert "[transformers]" not in many.err
    assert len([line for line in many.err.split("\n") if re.match(r"Loading .* \.\.\.$", line)]) == 2
    rows = {row["name"]: row["sha256"] for row in many.json["built"]}
    assert rows == {row["name"]: row["sha256"] for row in alone.json["built"]}
    assert (three / "perfusion.lock").read_bytes() == lock
    assert run_process("build", "--jobs", "2").out.startswith("Nothing to build: 3 concepts")


def started(*arguments: str) -> subprocess.Popen[str]:
    """A build in a process group of its own, as a shell starts it."""
    return forked.Popen(
        perf_process(*arguments),
        env=os.environ | {forked.POOLS: "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers(process: int) -> list[int]:
    """The processes that a build's server has forked for it."""
    return [grandchild for child in children(process) for grandchild in children(child)]


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def until_training(build: subprocess.Popen[str], count: int) -> None:
    assert build.stderr is not None
    names = set()
    for line in build.stderr:
        names |= {line.split(":")[0]} if ": training" in line else set()
        if len(names) == count:
            return
    pytest.fail("the builds did not begin")


def gone(processes: list[int]) -> bool:
    for _ in range(200):
        if not any(Path(f"/proc/{one}").exists() for one in processes):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_builds_at_once_end_together(three: Path, number: signal.Signals, code: int) -> None:
    """By Ctrl-C and as a job scheduler ends them; tests/test_workers.py ends them in the other ways."""
    for name in ("bear", "cub"):
        edit(three / "recipes" / f"{name}.toml", "steps = 2\n", "steps = 3000\n")
    with started("build", "bear", "cub", "--jobs", "2") as build:
        until_training(build, 2)
        at_work = workers(build.pid)
        assert len(at_work) == 2
        os.killpg(build.pid, number)  # both tell the whole group
        out, err = build.communicate(timeout=300)
    assert (build.returncode, out) == (code, "")
    assert err.strip().split("\n")[-1] == "interrupted; run the same `perf build` again to resume"
    assert "Traceback" not in err
    assert gone(at_work)
    assert not (three / "perfusion.lock").exists()


@pytest.mark.slow
def test_one_of_several_builds_that_fails_leaves_what_the_others_finished(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(forked.POOLS, "1")
    # The tiny base has no such model.
    edit(three / "recipes" / "paw.toml", 'mask = "none"', 'mask = "clipseg"')
    said = run_process("build", "--jobs", "2")
    assert said.code == 2
    assert "Traceback" not in said.err
    assert "error: " in said.err
    (three / "recipes" / "paw.toml").unlink()
    edit(three / "perfusion.toml", 'paw = { recipe = "recipes/paw.toml" }\n', "")
    assert run_process("build").code == 0
    assert {block.name for block in read_lockfile(three / "perfusion.lock").concepts} == {"bear", "cub"}
