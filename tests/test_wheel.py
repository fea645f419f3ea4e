"""The wheels of perf and of the base that ships, installed without dependencies beside the packages of the
tests, do what the README shows."""

from __future__ import annotations

import os
import shlex
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from PIL import Image

from perfusion_registry import __version__
from perfusion_registry.base import describe_base

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
STORYBOOK = ROOT / "perfusion-storybook"
CODE = 2_000_000
"""Bytes that the wheel of the code may have at most; it has 1.8 MB, an eighth of it CLIP's vocabulary."""
WEIGHTS = 100_000_000
"""Bytes that the wheel of the weights may have at most; it has 50 MB, as what it holds hardly compresses."""


def built(kind: str, project: Path, folder: Path) -> Path:
    """A wheel or an sdist of a project, made in `folder`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def storybook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", STORYBOOK, tmp_path_factory.mktemp("storybook"))


@pytest.fixture(scope="module")
def scripts(wheel: Path, storybook: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment with both wheels in it, and no other perf."""
    root = tmp_path_factory.mktemp("installed")
    venv.create(root, with_pip=False)
    python = root / "bin" / "python" if os.name == "posix" else root / "Scripts" / "python.exe"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    wheels = [str(wheel), str(storybook)]
    install = ["install", "-q", "--no-compile", "--no-deps", "--no-index"]
    subprocess.run([*pip, *install, *wheels], check=True)
    # Packages are looked for in these, but no .pth file of theirs is read: an editable perf is not seen.
    paths = {sysconfig.get_path(name) for name in ("purelib", "platlib")} | {*site.getsitepackages()}
    (packages,) = {path for path in root.glob("**/site-packages") if not path.is_symlink()}
    (packages / "current.pth").write_text("\n".join(sorted(paths)) + "\n", encoding="utf-8")
    return python.parent


def alone() -> dict[str, str]:
    """An environment in which nothing but the installed packages is found."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def first_example() -> list[list[str]]:
    """The commands by which the README begins a project."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Your own concepts\n\n")[2]
    block = text[text.index("    perf init\n") :].partition("\n\n")[0]
    assert all(line.startswith("    perf ") for line in block.splitlines())
    return [shlex.split(line) for line in block.splitlines()]


def of_the_repository(package: str, project: Path) -> set[str]:
    """The files of a package, as a wheel of the project has them."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", package]
    listed = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of a repository")
    return {name for name in listed.stdout.split("\0") if (project / name).is_file()}


def test_each_holds_every_file_of_its_package_and_no_other(wheel: Path, storybook: Path) -> None:
    for file, package, project, size in (
        (wheel, "perfusion_registry", ROOT, CODE),
        (storybook, "perfusion_storybook", STORYBOOK, WEIGHTS),
    ):
        with zipfile.ZipFile(file) as opened:
            held = {name for name in opened.namelist() if ".dist-info/" not in name}
        assert held == of_the_repository(package, project)
        assert file.stat().st_size < size


@pytest.mark.parametrize(
    ("project", "package", "other"),
    [(ROOT, "perfusion_registry", "perfusion-storybook"), (STORYBOOK, "perfusion_storybook", "unfinished")],
)
def test_sources_of_either_are_without_the_other(project: Path, package: str, other: str) -> None:
    """Nor has anybody what an edition to come has learned so far. Told by what builds them, since compressing
    the weights once more would take seconds."""
    held = {file.distribution_path for file in SdistBuilder(str(project)).recurse_included_files()}
    assert held >= {f"{package}/{name}" for name in of_the_repository(".", project / package)}
    assert not [path for path in held if other in Path(path).parts]
    assert ("tests/test_wheel.py" in held) == (project == ROOT)


def test_the_first_example_of_the_readme(scripts: Path, tmp_path: Path) -> None:
    """With two small steps of training and of drawing, not hundreds, and one prompt to judge by."""
    environment = alone() | {"PERF_CACHE_DIR": str(tmp_path / "store"), "NO_COLOR": "1"}
    place = tmp_path / "project"
    (place / "my").mkdir(parents=True)
    for number in range(2):
        Image.effect_noise((64, 64), 60 + 30 * number).convert("RGB").save(place / "my" / f"{number}.png")

    def perf(*arguments: str) -> str:
        command = [scripts / "perf", *arguments]
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert perf("--version") == f"perf {__version__}\n"
    commands = first_example()
    assert [command[1] for command in commands] == ["init", "add", "build", "render"]
    for _, *arguments in commands:
        perf(*arguments, *(["--steps", "2"] if arguments[0] == "render" else []))
        if arguments[0] == "add":
            with (place / "recipes" / "bunny.toml").open("a", encoding="utf-8") as recipe:
                recipe.write("\n[train]\nsteps = 2\nbatch = 2\nvalidate_every = 2\nvalidation_steps = 1\n")
                recipe.write('validation_prompts = ["a photo of a {}"]\n')
    (picture,) = (place / "renders").glob("*.png")
    card = describe_base("storybook").card.render
    with Image.open(picture) as image:
        assert image.size == (card["width"], card["height"])
