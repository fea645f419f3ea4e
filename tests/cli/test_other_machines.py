"""Other people's machines: an output of few letters, no home folder, somebody else's store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.errors import PerfError
from perfusion_registry.registries.credentials import credentials_for
from tests.cli.running import Perf

posix = pytest.mark.skipif(os.name != "posix", reason="users and permissions of POSIX")
NAMES = "Лука 茶 é"


def executed(place: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    variables = {**os.environ, "PERF_CACHE_DIR": str(place / "store"), **environment}
    command = [sys.executable, "-c", "from perfusion_registry.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=place, env=variables, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_names_that_stdout_cannot_encode_are_escaped(tmp_path: Path, encoding: str) -> None:
    place = tmp_path / NAMES
    place.mkdir()
    made = executed(place, "init", "--base", "storybook", PYTHONIOENCODING=encoding)
    assert made.returncode == 0, made.stderr
    for command in (["metadata", "--format-version", "1"], ["cache", "dir"], ["list"]):
        done = executed(place, *command, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        done.stdout.decode(encoding)
    done = executed(place, "cache", "dir", "--json", PYTHONIOENCODING=encoding)
    assert NAMES in json.dumps(json.loads(done.stdout.decode(encoding)), ensure_ascii=False)


def test_what_libraries_warn_of_is_not_shown(tmp_path: Path) -> None:
    program = (
        "import os, sys, warnings; from perfusion_registry.cli import main\n"
        "sys.argv = ['perf', '--version']\n"
        "main(); warnings.warn('of a library'); print(os.environ.get('PYTHONWARNINGS'))"
    )
    for asked in ("", "always"):
        variables = {**os.environ, "PYTHONWARNINGS": asked}
        done = subprocess.run(
            [sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True
        )
        assert ("of a library" in done.stderr) == bool(asked)
        assert done.stdout.split()[-1] == (asked or "ignore")  # what workers inherit


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_result_that_cannot_be_written_is_an_error(tmp_path: Path, unbuffered: str) -> None:
    assert executed(tmp_path, "init").returncode == 0
    program = [sys.executable, "-c", "from perfusion_registry.cli import main; main()"]
    variables = {**os.environ, "PERF_CACHE_DIR": str(tmp_path / "store"), "PYTHONUNBUFFERED": unbuffered}

    def ended(arguments: list[str], stdout: BinaryIO) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, *arguments],
            cwd=tmp_path,
            env=variables,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    for arguments in (["list"], ["list", "--json"], ["cache", "dir"], ["--help"], ["add", "--help"]):
        with open("/dev/full", "wb") as full:
            done = ended(arguments, full)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr == (
            "error: Cannot write the result: No space left on device\n   at  standard output\n"
        )
        reading, writing = os.pipe()
        os.close(reading)  # a reader who has left
        with os.fdopen(writing, "wb") as left:
            done = ended(arguments, left)
        assert (done.returncode, done.stderr) == (1, ""), arguments


@posix
def test_a_user_without_a_home_hears_which_variables_to_set(
    perf: Perf, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that runs under a number: HOME is not set, and the number has no name."""

    def unknown(number: object) -> None:
        raise KeyError(number)

    assert perf("init", "--base", "storybook").code == 0
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "PERF_CACHE_DIR", "PERF_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    for command in (["cache", "dir"], ["sync"], ["list"], ["key", "list"]):
        said = perf(*command)
        assert said.code == 2, command
        assert "This user has no home folder" in said.err
        assert "PERF_CACHE_DIR and PERF_DATA_DIR" in " ".join(said.err.split())
    assert not list(place.glob("~*"))
    monkeypatch.setenv("PERF_CACHE_DIR", str(place / "store"))
    monkeypatch.setenv("PERF_DATA_DIR", str(place / "data"))
    monkeypatch.delenv("NETRC", raising=False)
    assert perf("list").code == 0
    assert credentials_for("studio", "https://registry.invalid/concepts") is None  # and no netrc


@posix
def test_a_store_whose_files_another_user_wrote_is_told_and_not_built_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.put(b"artifact")
    store.record("0" * 64, digest)
    hidden = [store.path(digest), next(path for path in (tmp_path / "builds").rglob("0" * 64))]
    code = (
        "import os, sys; from pathlib import Path; from perfusion_registry.artifact import Store\n"
        "from perfusion_registry.errors import PerfError\n"
        "if os.getuid() == 0: os.setgid(54321); os.setuid(54321)\n"
        "store = Store(Path(sys.argv[1]))\n"
        f"for ask in (lambda: store.get('{digest}'), lambda: store.has('{digest}'), "
        "lambda: store.lookup('0' * 64)):\n"
        "    try: print('answered', ask())\n"
        "    except PerfError as error: print(error)\n"
    )
    for path in hidden:
        path.chmod(0)
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.owner() == tmp_path.owner() and folder.is_relative_to(tmp_path.parents[2]):
            folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("cannot be read: permission denied") == 3, done.stdout + done.stderr
    assert "answered" not in done.stdout
    assert "PERF_CACHE_DIR" in done.stdout


def test_a_user_who_does_not_exist_is_told() -> None:
    from perfusion_registry.cache_folder import expand_user

    with pytest.raises(PerfError, match="no user `nobody-of-this-name`"):
        expand_user("~nobody-of-this-name/pictures")
    assert expand_user("a/~b") == Path("a/~b")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts addresses as Linux does")
@pytest.mark.parametrize(("before", "room"), [("", 200), ("draw('64')", 60)])
def test_a_command_without_memory_ends_in_a_sentence(project: Path, before: str, room: int) -> None:
    """There is none for PyTorch itself; none for a large picture, where a small one could be drawn."""
    program = (
        "import resource, sys; from perfusion_registry.cli import main\n"
        "def draw(size):\n"
        "    sys.argv = ['perf', 'render', 'a teddy', '--steps', '1', '--out', size, '--size', size]\n"
        "    try: main()\n"
        "    except SystemExit as end: return end.code\n"
        f"assert not ({before or None})\n"
        "taken = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (taken + {room} * 2**20,) * 2)\n"
        "sys.exit(draw('1024'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "not enough memory" in done.stderr or "does not fit into the memory" in done.stderr
