"""Without the libraries that train and draw, perf does all that needs none, and says what is lacking."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from perfusion_registry.extras import EXTRAS, lacking
from tests.cli.running import Said, edit, perf_process
from tests.operations.stand_in import stand_in

ROOT = Path(__file__).parents[2]
BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {lacking!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without(site: Path, *arguments: str) -> Said:
    """A command in an environment without any optional library."""
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(BLOCK.format(lacking=tuple(EXTRAS)))
    path = os.pathsep.join([str(site), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path}
    run = subprocess.run(
        perf_process(*arguments), capture_output=True, text=True, env=environment, check=False
    )
    return Said(run.returncode, run.stdout, run.stderr)


def test_what_needs_no_model_goes_without_torch(project: Path, tmp_path: Path) -> None:
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "gallery"\n')
    edit(project / "recipes" / "bear.toml", "[concept]", '[concept]\nlicence = "CC0-1.0"\nauthors = ["Me"]')
    stand_in(project)
    site = tmp_path / "site"
    for command in (
        ["lock"], ["list"], ["tree"], ["metadata"], ["publish", "bear"], ["search"], ["info", "bear"],
        ["sync", "--locked"], ["verify"], ["vendor", "stick"], ["doctor"], ["cache", "verify"],
        ["sync", "stick/perfusion.lock", "--project", "away"], ["evaluate", "list"],
    ):  # fmt: skip
        done = without(site, *command)
        assert done.code == 0, (command, done)
    assert "torch is not installed, and is needed to train and to draw" in without(site, "doctor").out
    for command in (
        ["build", "--force"],
        ["render", "a bear*"],
        ["explain", "a bear*"],
        ["sweep", "a bear*"],
    ):
        refused = without(site, *command)
        assert refused.code == 2, (command, refused)
        assert "Torch is not installed" in refused.err
        assert "pip install 'perfusion-registry[models]'" in refused.err
        assert "Traceback" not in refused.err


def test_every_extra_is_one_of_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = {
        name: " ".join(needs).replace("-", "_") for name, needs in project["optional-dependencies"].items()
    }
    for library, extra in EXTRAS.items():
        assert library in extras[extra].lower()
        assert library not in " ".join(project["dependencies"]).replace("-", "_")


def test_another_failure_of_an_import_is_no_lack() -> None:
    assert lacking(ModuleNotFoundError("no", name="perfusion_registry.nothing")) is None
    assert lacking(ImportError("cannot import name", name="torch")) is None
    with pytest.raises(ModuleNotFoundError):
        import perfusion_registry.nothing  # noqa: F401
