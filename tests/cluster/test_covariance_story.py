"""Captions counted by machines that share nothing but the address of a store, of which one dies meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.nodes import Nodes
from tests.cluster.test_story import PERF, told_by
from tests.tiny import save_tiny_base

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
WORDS = ("cat", "dog", "teapot", "boat", "car")


def machine(home: Path, base: Path) -> tuple[Path, dict[str, str]]:
    """Somebody's machine with a base and 13,000 captions, which are seven windows; and the environment."""
    home.mkdir()
    shutil.copytree(base, home / "base")
    lines = (f"a photo of a {WORDS[number % 5]}, {number % 7} {number % 11}" for number in range(13_000))
    (home / "captions.txt").write_text("\n".join(lines))
    own = {"HOME": str(home), "PERF_CACHE_DIR": str(home / "cache"), "PERF_DATA_DIR": str(home / "data")}
    return home, {**os.environ, **own}


def test_machines_count_what_one_does_though_one_of_them_dies(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base")
    ask = ["covariance", "captions.txt", "--base", "./base", "--threads", "1", "--out", "C.safetensors"]
    alone, environment = machine(tmp_path / "bob", base)
    subprocess.run([*PERF, *ask, "--quiet"], cwd=alone, env=environment, check=True)
    wanted = (alone / "C.safetensors").read_bytes()

    here, environment = machine(tmp_path / "ann", base)
    shared = tmp_path / "shared"
    with Nodes(tmp_path / "nodes") as nodes:
        command = [*PERF, *ask, "--on", nodes.address, "--shared-store", str(shared), "--json"]
        out = told_by(nodes, command, lambda: list(shared.glob("results/*/*")), cwd=here, env=environment)
    assert json.loads(out)["captions"] == 13_000
    assert (here / "C.safetensors").read_bytes() == wanted
    assert len(list(shared.glob("results/*/*"))) == 7
    assert not list((here / "cache" / "work").iterdir())

    # What is counted is not counted again: there is no cluster any more.
    third, environment = machine(tmp_path / "eve", base)
    subprocess.run(command, cwd=third, env=environment, check=True, capture_output=True)
    assert (third / "C.safetensors").read_bytes() == wanted


def test_a_cluster_of_this_machine_needs_nothing_shared(tmp_path: Path) -> None:
    here, environment = machine(tmp_path / "ann", save_tiny_base(tmp_path / "base"))
    ask = [*PERF, "covariance", "captions.txt", "--base", "./base", "--threads", "1", "--quiet"]
    for more in (["--out", "1.safetensors"], ["--out", "2.safetensors", "--on", "local"]):
        subprocess.run([*ask, *more], cwd=here, env=environment, check=True)
    assert (here / "1.safetensors").read_bytes() == (here / "2.safetensors").read_bytes()
