"""Two laptops, by the commands of docs/scale.md alone, as two nodes of one machine."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster.test_story import person, several, until
from tests.tiny import save_tiny_base

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
FIRST = "192.168.1.10"
"""The address of the first laptop, as the page has it."""


def commands() -> list[str]:
    """The lines that the page has people type on their laptops, without what they say of themselves."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## A cluster")[2].partition("\n## ")[0]
    return [line.partition("  #")[0].strip() for line in re.findall(r"^    (\S.*)$", section, re.MULTILINE)]


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def laptop(command: Sequence[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """A node that stays until the context ends: `--block`, since `ray stop` would end those of others too."""
    with log.open("wb") as said:
        node = subprocess.Popen(
            [*command, "--block"], env=environment, stdout=said, stderr=said, start_new_session=True
        )
    try:
        yield
    finally:
        node.send_signal(signal.SIGTERM)
        try:
            node.wait(30)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGKILL)


def answers(address: str) -> bool:
    with suppress(OSError):
        urllib.request.urlopen(f"{address}/api/version", timeout=2).close()
        return True
    return False


def test_the_page_says_all_that_two_laptops_need(tmp_path: Path) -> None:
    head, other, build = commands()
    cluster, jobs, client, *agents = free_ports(5)
    shared = tmp_path / "shared"

    def typed(command: str) -> list[str]:
        words = shlex.split(
            command.replace(f"{FIRST}:6379", f"127.0.0.1:{cluster}")
            .replace(f"{FIRST}:8265", f"127.0.0.1:{jobs}")
            .replace(FIRST, "127.0.0.1")
            .replace("/mnt/studio", str(shared))
        )
        own = {
            "ray": [sys.executable, "-m", "ray.scripts.scripts"],
            "perf": [sys.executable, "-c", "from perfusion_registry.cli import main; main()"],
        }
        return [*own[words[0]], *words[1:]]

    (tmp_path / "made").mkdir()
    project = several(tmp_path / "made", save_tiny_base(tmp_path / "base"), count=2, steps=2)
    ports = ["--port", str(cluster), "--dashboard-port", str(jobs), "--ray-client-server-port", str(client)]
    small = ["--num-cpus", "1", "--object-store-memory", str(80 * 2**20)]
    python = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with ExitStack() as stack:
        started = (("ann", [*typed(head), *ports, *small]), ("bob", [*typed(other), *small]))
        for agent, (name, command) in zip(agents, started, strict=True):
            command += ["--dashboard-agent-listen-port", str(agent)]
            here, environment = person(tmp_path / name, project)
            environment = {**environment, "PATH": python, "RAY_USAGE_STATS_ENABLED": "0"}
            stack.enter_context(laptop(command, environment, tmp_path / f"{name}.log"))
            until(lambda: answers(f"http://127.0.0.1:{jobs}"))
        done = subprocess.run(
            typed(build), cwd=here, env=environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr
    assert "Built 2 concepts" in done.stdout
    alone, environment = person(tmp_path / "eve", project)
    subprocess.run(
        [*typed("perf build"), "--threads", "1", "--quiet"], cwd=alone, env=environment, check=True
    )
    assert (here / "perfusion.lock").read_bytes() == (alone / "perfusion.lock").read_bytes()
