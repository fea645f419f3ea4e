"""Without the libraries that train and draw, perf does all that needs none, and says what is lacking."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from perfusion_registry.extras import EXTRAS, lacking
from tests.cli.running import Said, edit
from tests.golden.place import GOLDEN
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


RUN = """
import contextlib, io, json, sys
from perfusion_registry.cli.application import application

said = []
for command in json.loads(sys.argv[1]):
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            application()(command)
        except SystemExit as end:
            code = end.code or 0
    said.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(said))
"""


def without(*commands: list[str]) -> list[Said]:
    """Commands, one after the other, in a process that can import no optional library, however often it
    tries."""
    program = BLOCK.format(lacking=tuple(EXTRAS)) + RUN
    run = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return [Said(*said) for said in json.loads(run.stdout)]


def test_what_needs_no_model_goes_without_torch(project: Path) -> None:
    with (project / "perfusion.toml").open("a", encoding="utf-8") as file:
        file.write('\n[registries]\nstudio = "gallery"\n')
    edit(project / "recipes" / "bear.toml", "[concept]", '[concept]\nlicence = "CC0-1.0"\nauthors = ["Me"]')
    stand_in(project)
    commands = (
        ["lock"], ["list"], ["tree"], ["metadata"], ["publish", "bear"], ["search"], ["info", "bear"],
        ["sync", "--locked"], ["verify"], ["vendor", "stick"], ["doctor"], ["cache", "verify"],
        ["sync", "stick/perfusion.lock", "--project", "away"], ["evaluate", "list"],
    )  # fmt: skip
    for command, done in zip(commands, without(*commands), strict=True):
        assert done.code == 0, (command, done)
        if command == ["doctor"]:
            assert "torch is not installed, and is needed to train and to draw" in done.out
    models = (["build", "--force"], ["render", "a bear*"], ["explain", "a bear*"], ["sweep", "a bear*"])
    for command, refused in zip(models, without(*models), strict=True):
        assert refused.code == 2, (command, refused)
        assert "Torch is not installed" in refused.err
        assert "pip install 'perfusion-registry[models]'" in refused.err
        assert "Traceback" not in refused.err
    # What is said while publishing goes into an artifact that is built already: nothing is written before
    # that is known to be possible.
    recipe, lockfile = project / "recipes" / "bear.toml", project / "perfusion.lock"
    edit(project / "recipes" / "bear.toml", 'version = "1.0.0"', 'version = "1.1.0"')
    stand_in(project)
    kept = recipe.read_bytes(), lockfile.read_bytes()
    (refused,) = without(["publish", "bear", "--description", "a bear"])
    assert refused.code == 2
    assert "Torch is not installed, and is needed to write what is said into an artifact" in " ".join(
        refused.err.split()
    )
    assert (recipe.read_bytes(), lockfile.read_bytes()) == kept


def test_a_project_on_storybook_that_is_not_installed(place: Path) -> None:
    """It is begun, read and fetched; what asks for the base says which extra brings it."""
    begun, locking = without(["init"], ["lock"])
    assert begun.code == 0, begun
    assert "storybook is not on this machine yet: pip install 'perfusion-registry[models]'" in begun.out
    assert locking.code == 2
    assert "perfusion-storybook, the base that ships with perf, is not installed" in locking.err
    assert "pip install 'perfusion-registry[models]', or perfusion-storybook alone" in locking.err
    shutil.copytree(GOLDEN / "home", "home")
    shutil.copytree(GOLDEN / "photos", "home/recipes/photos")
    commands = [
        [*command, "--project", "home"]
        for command in (["list"], ["tree"], ["metadata"], ["sync", "--locked"])
    ]
    for command, done in zip(commands, without(*commands), strict=True):
        assert done.code == 0, (command, done)


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
