"""Where work goes, and what is refused before anything is imported."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from perfusion_registry.cli import app
from perfusion_registry.cluster.address import SHARED_STORE_VARIABLE, ClusterAddress
from perfusion_registry.cluster.connection import connected, unmet
from perfusion_registry.cluster.resources import PROCESS, TaskResources, resources_of
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build import BuildOptions
from perfusion_registry.operations.evaluate import EvaluateOptions, evaluate
from perfusion_registry.operations.workspace import Workspace
from tests.operations.conftest import place as place
from tests.operations.conftest import project as project
from tests.operations.test_build_time import Hearing
from tests.tiny import save_tiny_base


@pytest.mark.parametrize("on", ["auto", "10.0.0.1:6379", "head:6379", "[::1]:6379"])
def test_a_cluster_by_a_node_of_it(on: str, tmp_path: Path) -> None:
    place = ClusterAddress.read(on, str(tmp_path))
    assert place == ClusterAddress(on, str(tmp_path))
    assert not place.takes_jobs


def test_a_cluster_by_its_jobs() -> None:
    place = ClusterAddress.read("https://head.example:8265", "s3://studio/store")
    assert place is not None
    assert place.takes_jobs


def test_this_machine_needs_no_shared_store(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ClusterAddress.read("local", None) == ClusterAddress("local")
    monkeypatch.setenv(SHARED_STORE_VARIABLE, "/mnt/studio")
    assert ClusterAddress.read(None, "/mnt/studio") is None


def test_a_program_has_the_store_of_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED_STORE_VARIABLE, str(tmp_path))
    assert ClusterAddress.read("auto", None) == ClusterAddress("auto", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert ClusterAddress.read("auto", "shared") == ClusterAddress("auto", str(tmp_path / "shared"))


def test_a_store_of_another_kind_is_no_folder_of_that_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything is trained or imported for it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    before = sorted(path for path in project.iterdir())
    asked = ["build", "--on", "local", "--shared-store", "oci://registry.example/studio"]
    said = CliRunner().invoke(app, asked)
    assert said.exit_code == 2, said.output
    assert "Machines share a store in a folder or in S3" in " ".join(said.stderr.split())
    assert sorted(path for path in project.iterdir()) == before


@pytest.mark.parametrize(
    ("on", "shared", "said"),
    [
        ("head", "/mnt", "no Ray cluster"),
        ("ray://head:10001", "/mnt", "Ray Client"),
        ("head:6379", None, "a store that all of them reach"),
        (None, "/mnt", "shares no store"),
    ],
)
def test_mistakes_say_what_to_do(on: str | None, shared: str | None, said: str) -> None:
    with pytest.raises(PerfError, match=said) as told:
        ClusterAddress.read(on, shared)
    assert told.value.hint


@pytest.mark.parametrize("more", [{"force": True}, {"jobs": 2}])
def test_what_a_cluster_does_not_do(more: dict[str, int]) -> None:
    with pytest.raises(PerfError) as told:
        BuildOptions(cluster=ClusterAddress("local"), **more)  # type: ignore[arg-type]
    assert told.value.where in ("--force", "--jobs")


def test_a_task_asks_for_what_its_base_needs(tmp_path: Path) -> None:
    from perfusion_registry.base import describe_base

    base = describe_base(str(save_tiny_base(tmp_path / "base")))
    weights = sum(path.stat().st_size for path in (tmp_path / "base").rglob("*.safetensors"))
    assert resources_of(base, "cpu", 4, gpus_there=True).cpus == 4
    assert resources_of(base, "cpu", None, gpus_there=True).memory == PROCESS + 3 * weights
    assert [resources_of(base, "auto", None, gpus_there=there).gpus for there in (False, True)] == [0, 1]
    assert resources_of(base, "cuda", None, gpus_there=False).gpus == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_cluster_that_does_not_answer_is_told_at_once(host: str) -> None:
    """Ray itself would try for minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{host}:{free.getsockname()[1]}"
    with pytest.raises(PerfError, match=re.escape(f"no node of a cluster at {address}")) as told:
        connected(address).__enter__()
    assert "ray start" in str(told.value.hint)


def test_what_no_machine_has_is_said_with_what_they_have() -> None:
    resources = {"CPU": 2.0, "memory": 20e9}
    there: Any = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": resources}])
    assert unmet(there, TaskResources(cpus=2, memory=PROCESS)) is None
    said = unmet(there, TaskResources(gpus=1, memory=int(6.9e9)))
    assert said is not None
    assert "asks for (1 processor, 1 GPU, 6.9 GB)" in said
    assert said.endswith("the most that any has is 2 processors, 0 GPUs and 20.0 GB")


def test_without_ray_one_sentence_names_the_extra() -> None:
    program = (
        "import sys\nsys.modules['ray'] = None\n"
        "from perfusion_registry.cluster.connection import require_ray\n"
        "try:\n    require_ray()\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "perfusion-registry[cluster]" in done.stdout, done
    assert "ray is not installed, and is needed to work on several machines" in done.stdout


def test_that_ray_is_lacking_is_told_before_an_evaluation_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    options = EvaluateOptions(suite="paper", report=False, cluster=ClusterAddress("local"))
    hearing = Hearing()
    with (
        Workspace.open(optional=True, reporter=hearing) as workspace,
        pytest.raises(PerfError, match="several machines") as told,
    ):
        evaluate(workspace, options)
    assert "perfusion-registry[cluster]" in (told.value.hint or "")
    assert not hearing.stages
