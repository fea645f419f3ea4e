"""Prompts drawn by machines that share nothing but the address of a store, of which one dies meanwhile."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cluster.nodes import Nodes
from tests.cluster.test_story import PERF, person, told_by
from tests.operations.conftest import project_on, working_in
from tests.tiny import save_tiny_base

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
PROMPTS = """\
a bear* at sea --seed 1-3
a bear* at night
a bear* at night
a plain picture --seed 5
"""


def test_machines_draw_what_one_does_though_one_of_them_dies(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base")
    (tmp_path / "made").mkdir()
    with working_in(tmp_path / "made"):
        project_on(tmp_path / "made", base)
    (tmp_path / "made" / "prompts.txt").write_text(PROMPTS)
    draw = [
        "render",
        "--prompts",
        "prompts.txt",
        "--threads",
        "1",
        "--steps",
        "3",
        "--size",
        "64",
        "--batch",
        "2",
    ]
    alone, environment = person(tmp_path / "bob", tmp_path / "made")
    asked = {"cwd": alone, "env": environment, "check": True}
    subprocess.run([*PERF, "build", "--threads", "1", "--quiet"], **asked)  # type: ignore[call-overload]
    subprocess.run([*PERF, *draw, "--quiet"], **asked)  # type: ignore[call-overload]
    wanted = {path.name: path.read_bytes() for path in (alone / "renders").iterdir()}
    assert len(wanted) == 6

    shared = tmp_path / "shared"
    with Nodes(tmp_path / "nodes") as nodes:
        command = [*PERF, *draw, "--on", nodes.address, "--shared-store", str(shared), "--json"]
        command += ["--out", "there", "--sheet", "sheet.png"]
        out = told_by(nodes, command, lambda: list(shared.glob("results/*/*")), cwd=alone, env=environment)
    assert {path.name: path.read_bytes() for path in (alone / "there").iterdir()} == wanted
    rows = json.loads(out)["prompts"]
    assert [[picture["seed"] for picture in row["pictures"]] for row in rows] == [[1, 2, 3], [0], [0], [5]]
    assert (alone / "sheet.png").is_file()

    # What is drawn is not drawn again: there is no cluster any more.
    command[-3] = "again"
    subprocess.run(command, cwd=alone, env=environment, check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in (alone / "again").iterdir()} == wanted
