"""A project built by machines that share nothing but the address of a store, of which some die meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.nodes import Nodes
from tests.operations.conftest import edit, project_on, working_in
from tests.tiny import save_tiny_base

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
PERF = [sys.executable, "-c", "from perfusion_registry.cli import main; main()"]


def several(place: Path, base: Path, count: int, steps: int) -> Path:
    """A project with so many concepts of other seeds; its base and pictures lie outside of it."""
    with working_in(place):
        project_on(place, base)
    recipe = place / "recipes" / "bear.toml"
    text = recipe.read_text(encoding="utf-8").replace("steps = 1", f"steps = {steps}\nbatch = 1", 1)
    entries = []
    for number in range(count):
        name = f"bear-{number}"
        (place / "recipes" / f"{name}.toml").write_text(
            text.replace('name = "bear"', f'name = "{name}"').replace("[train]", f"[train]\nseed = {number}"),
            encoding="utf-8",
        )
        entries.append(f'{name} = {{ recipe = "recipes/{name}.toml" }}\n')
    recipe.unlink()
    edit(place / "perfusion.toml", 'bear = { recipe = "recipes/bear.toml" }\n', "".join(entries))
    return place


def person(home: Path, project: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the project on somebody's machine, and the environment there."""
    shutil.copytree(project, home / "project", ignore=shutil.ignore_patterns("store", "data"))
    own = {"HOME": str(home), "PERF_CACHE_DIR": str(home / "cache"), "PERF_DATA_DIR": str(home / "data")}
    return home / "project", {**os.environ, **own}


def until(true: Callable[[], object], seconds: float = 400.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def checkpoints(shared: Path) -> dict[Path, int]:
    """The checkpoints in the shared store, and when each was written; without those of what is built."""
    found = {}
    for path in shared.glob("work/*/checkpoint"):
        status = path.stat()
        if status.st_size:
            found[path] = status.st_mtime_ns
    return found


def half_way(nodes: Nodes, shared: Path) -> list[str]:
    """The nodes that have learned a part of a concept, and shared a checkpoint of it."""
    shares = {path.parent.name for path in checkpoints(shared)}
    begun = {name: (nodes.root / name / "cache" / "work").glob("*") for name in nodes.alive}
    return [name for name, folders in begun.items() if shares & {path.name for path in folders}]


def told_by(nodes: Nodes, command: list[str], when: Callable[[], object], **how: Any) -> str:
    """What a command of a cluster with one node tells. Once `when` is true, or the command has ended, that
    node dies, and there is another."""
    first = nodes.add()
    pipes = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, **how) as running:
        until(lambda: running.poll() is not None or when())
        nodes.add()
        nodes.kill(first)
        out, err = running.communicate(timeout=500)
    assert running.returncode == 0, err
    told: str = out
    return told


def test_machines_that_die_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base")
    (tmp_path / "made").mkdir()
    project = several(tmp_path / "made", base, count=4, steps=150)
    shared = tmp_path / "shared"
    here, environment = person(tmp_path / "ann", project)
    with Nodes(tmp_path / "nodes", PERF_CHECKPOINT_SECONDS="0.2") as nodes:
        nodes.add(), nodes.add()
        command = [*PERF, "build", "--on", nodes.address, "--shared-store", str(shared), "--json"]
        asked = {"cwd": here, "env": environment, "text": True, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, stderr=subprocess.PIPE, **asked) as building:  # type: ignore[call-overload]
            for _ in range(2):  # dies while it has a concept half learned, and has told of it
                until(lambda: building.poll() is not None or half_way(nodes, shared))
                nodes.kill(half_way(nodes, shared)[0])
                nodes.add()
            out, err = building.communicate(timeout=400)
        assert building.returncode == 0
        rows = json.loads(out)["built"]
        assert sorted(row["name"] for row in rows) == [f"bear-{number}" for number in range(4)]
        assert "goes on after step" in err

        # Somebody stops half way: nothing is left running.
        for recipe in (here / "recipes").glob("*.toml"):
            edit(recipe, "seed = ", "seed = 1")
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, **asked) as stopped:  # type: ignore[call-overload]
            until(nodes.working)
            stopped.send_signal(signal.SIGINT)
            assert stopped.wait(60) == 130
        until(lambda: not nodes.working(), seconds=20)

    alone, environment = person(tmp_path / "bob", project)
    subprocess.run([*PERF, "build", "--threads", "1", "--quiet"], cwd=alone, env=environment, check=True)
    locked = (alone / "perfusion.lock").read_bytes()
    for row in rows:
        assert row["sha256"] in locked.decode()
        name = f"artifacts/{row['sha256'][:2]}/{row['sha256']}.safetensors"
        assert (shared / name).read_bytes() == (tmp_path / "ann" / "cache" / name).read_bytes()
    finished = [path.name for path in (tmp_path / "nodes").glob("node-*/cache/artifacts/*/*.safetensors")]
    assert sorted(name for name in finished if name[:-12] in locked.decode()) == sorted(
        f"{row['sha256']}.safetensors" for row in rows
    )

    # A third takes what is done from the shared store: there is no cluster any more.
    third, environment = person(tmp_path / "eve", project)
    subprocess.run(command, cwd=third, env=environment, check=True, capture_output=True)
    assert (third / "perfusion.lock").read_bytes() == locked
