"""Whether a process that was forked is one that was executed, in all that tests look at."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.cli.running import perf_process
from tests.cli.studio import MANIFEST, Person, Studio, give_recipe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every process is executed")
Run = Callable[..., "subprocess.CompletedProcess[Any]"]


def program(text: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", text, *arguments]


COMMANDS = (
    ("build", "--json"),
    ("list",),
    ("render", "--scene", "sailing", "--steps", "1", "--out", "out.png", "--sheet", "sheet.png"),
    ("render", "a bare*"),
    ("publish", "teddy"),
    ("sync", "--locked"),
)


@pytest.mark.slow
def test_commands_do_the_same_forked_and_executed(house: Studio) -> None:
    """One project twice in the same folder, through everything that a person does with it."""
    person = house.person("author", MANIFEST)
    recipe = give_recipe(person, "teddy")
    recipe.write_text(recipe.read_text().replace("steps = 1\n", "steps = 3\ntrained_keys = true\n", 1))
    shutil.copytree(person.folder, house.root / "as it was")
    told = []
    for run in (subprocess.run, forked.run):
        told.append([carried_out(run, person, *command) for command in COMMANDS])
        told.append(kept(house.root))  # type: ignore[arg-type]
        for folder in (person.folder, person.store, house.root / "registry"):
            shutil.rmtree(folder)
        shutil.copytree(house.root / "as it was", person.folder)
    for command, one, other in zip(COMMANDS, told[0], told[2], strict=True):
        assert one == other, command
    assert [code for code, _, _ in told[0]] == [0, 0, 0, 2, 0, 0]
    assert told[1] == told[3]
    assert {"author/out.png", "author/sheet.png", "author/perfusion.lock"} <= set(told[1])
    assert len([path for path in told[1] if path.startswith("store of author/artifacts/")]) == 1


def carried_out(run: Run, person: Person, *command: str) -> tuple[int, str, str]:
    done = run(
        perf_process(*command),
        cwd=person.folder,
        env=person.environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, timeless(done.stdout), timeless(done.stderr)


def timeless(text: str) -> str:
    """Without seconds, and without the lines that say that something took long."""
    text = "".join(line for line in text.splitlines(keepends=True) if ": done in " not in line)
    return re.sub(r'(?<="seconds": )[\d.]+|\b\d+(\.\d+)? ?s\b', "some", text)


def kept(root: Path) -> dict[str, bytes]:
    """Every file but memories of when other files were changed and of how long builds took."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for folder in ("author", "store of author", "registry")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and not {"digests", "durations", "synced"} & set(path.parts)
    }


ENDS = {
    "quietly": "pass",
    "with a code": "raise SystemExit(7)",
    "with a negative code": "import sys; sys.exit(-1)",
    "with words": "import sys; sys.exit('no more')",
    "with a file left open": "open('left', 'w').write('all'); f = open('held', 'w'); f.write('and this')",
    "with a thread at work": (
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()"
    ),
    "with something to do at the end": "import atexit; atexit.register(print, 'bye'); raise SystemExit(3)",
    "with a finaliser": "import weakref\nclass X: pass\nx = X(); weakref.finalize(x, print, 'gone')",
    "by a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "by the worst signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "by leaving at once": "import os; print('lost'); os._exit(5)",
    "without an output": "import sys; sys.stdout.close()",
    "with an echo": "import sys; print(sys.stdin.read().upper()); print('aside', file=sys.stderr)",
}


@pytest.mark.parametrize("how", ENDS)
def test_processes_end_the_same_way(how: str, tmp_path: Path) -> None:
    told = []
    for run in (subprocess.run, forked.run):
        folder = tmp_path / run.__module__
        folder.mkdir()
        done = run(program(ENDS[how]), cwd=folder, input="word", capture_output=True, text=True)
        told.append((done.returncode, done.stdout, done.stderr))
        told.append({path.name: path.read_text() for path in folder.iterdir()})
    assert told[0] == told[2]
    assert told[1] == told[3]


@pytest.mark.parametrize("error", ["1 / 0", "raise KeyboardInterrupt"])
def test_what_nobody_catches_is_told_at_the_end(error: str) -> None:
    one, other = (run(program(error), capture_output=True, text=True) for run in (subprocess.run, forked.run))
    assert one.returncode == other.returncode != 0
    assert one.stderr.splitlines()[-1] == other.stderr.splitlines()[-1]
    assert "Traceback" in other.stderr


SELF = """
import gc, io, logging, multiprocessing, os, random, signal, sys, threading, warnings
print(sorted(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), threading.active_count())
print([line for line in open("/proc/self/status") if line[:6] in ("SigBlk", "SigIgn", "SigCgt")])
print(os.getcwd(), os.getsid(0) == os.getpid(), os.umask(0), sorted(os.environ.items()))
print(sys.argv, sys.path, sys.flags, sys.getrecursionlimit(), signal.getsignal(signal.SIGINT))
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream, stream.encoding, stream.errors, getattr(stream, "line_buffering", None), stream.isatty())
print(__name__, sys.modules["__main__"].__spec__, multiprocessing.parent_process(), gc.isenabled())
print(multiprocessing.current_process().name, threading.current_thread() is threading.main_thread())
print(logging.getLogger().handlers, logging.getLogger().level)
import torch
print(torch.get_num_threads(), torch.initial_seed() == torch.default_generator.initial_seed())
print(torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled())
"""


@pytest.mark.parametrize("session", [False, True])
def test_a_process_sees_the_same_of_itself(tmp_path: Path, session: bool) -> None:
    environment = os.environ | {"PERF_WORD": "ü ' \n", "NO_COLOR": "1", "COLUMNS": "90"}
    options = {"cwd": tmp_path, "env": environment, "start_new_session": session, "text": True}
    one, other = (
        run(program(SELF, "a", ""), stdin=subprocess.DEVNULL, capture_output=True, **options)
        for run in (subprocess.run, forked.run)
    )
    assert (one.returncode, one.stderr) == (0, "")
    for line, same in zip(one.stdout.splitlines(), other.stdout.splitlines(), strict=True):
        assert same == line


def test_nothing_reads_while_it_is_imported_what_a_fork_may_change() -> None:
    """Another value of it would come too late in a fork."""
    text = "from tests import fork_server; print(*fork_server.VARIABLES_READ)"
    read = set(forked.run(program(text), capture_output=True, text=True, check=True).stdout.split())
    assert {"HF_HUB_OFFLINE", "HF_HOME"} <= read
    read.discard("COLUMNS")  # accelerate asks how wide its menus may be, which nobody sees
    read.discard(
        "TORCHINDUCTOR_CACHE_DIR"
    )  # torch asks, and where it is not set, sets it to what it is anyway
    assert forked.read_at_import(dict.fromkeys(read, "")).keys() == read


def test_what_cannot_be_forked_is_executed() -> None:
    text = "import sys; print('torch' in sys.modules)"
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    elsewhere = os.environ | {"HF_HOME": "/nowhere"}
    for command, more, imported in (
        (program(text), {}, "True\n"),
        (program(text), {"env": os.environ | {"PERF_DATA_DIR": "/nowhere"}}, "True\n"),
        (program(text), {"env": elsewhere}, "False\n"),
        (program(text), {"preexec_fn": int}, "False\n"),
        ([sys.executable, "-S", "-c", text], {}, "False\n"),
        (["sh", "-c", "echo False"], {}, "False\n"),
        ("echo False", {"shell": True}, "False\n"),
    ):
        with forked.Popen(command, **piped, **more) as process:
            assert process.communicate() == (imported, None), command
        assert process.forked is (imported == "True\n")
        assert process.returncode == 0
    ours, theirs = os.openpty()
    with forked.Popen(program(text), stdout=theirs) as process:
        assert process.wait() == 0
    assert not process.forked
    os.close(ours)
    os.close(theirs)


def test_a_process_can_be_watched_and_ended() -> None:
    text = (
        "import time\n"
        "try: print('begun', flush=True); time.sleep(600)\n"
        "except KeyboardInterrupt: print('heard')"
    )
    for number, code, said in ((signal.SIGINT, 0, "heard\n"), (signal.SIGKILL, -9, "")):
        with forked.Popen(program(text), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            assert process.forked
            assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)
            process.send_signal(number)
            assert process.communicate(timeout=60) == (said, None)
        assert process.returncode == process.poll() == process.wait() == code
        process.kill()  # of what has ended is nothing


def test_processes_run_side_by_side_and_have_random_numbers_of_their_own() -> None:
    text = (
        "import random, sys; import numpy as np; import torch\n"
        "print(sys.argv[1], flush=True); sys.stdin.readline()\n"
        "print(random.random(), np.random.rand(), torch.rand(1).item())"
    )
    numbers = [str(number) for number in range(4)]
    processes = [
        forked.Popen(program(text, number), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in numbers
    ]
    assert [process.stdout.readline().strip() for process in processes] == numbers
    random.Random(0).shuffle(processes)
    drawn = [process.communicate("go\n")[0] for process in processes]
    assert all(process.forked for process in processes)
    assert len({word for line in drawn for word in line.split()}) == 12


@pytest.mark.slow
def test_the_server_ends_with_the_tests_and_what_it_forked_goes_on() -> None:
    """As a process that was executed would."""
    text = (
        "import os, signal, subprocess, sys; from tests import forked\n"
        "lonely = forked.alone(bare=True); forked.server = lambda: lonely\n"
        "child = forked.Popen([sys.executable, '-c', 'input(); print(1)'], stdin=0, stdout=1)\n"
        "print(forked.server().process.pid, child.forked, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    own = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_TESTRUNUID"}
    with subprocess.Popen(
        program(text), cwd=forked.ROOT, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        server, was_forked = process.stdout.readline().split()
        assert was_forked == "True"
        assert process.wait(60) == -signal.SIGKILL
        for _ in range(600):
            if not alive(int(server)):
                break
            signal.sigtimedwait([], 0.05)
        assert not alive(int(server))
        assert process.communicate("go", timeout=60)[0] == "1\n"


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_server_that_has_died_is_an_error_and_no_wait() -> None:
    lonely = forked.alone(bare=True)
    assert lonely.process is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forked, "server", lambda: lonely)
        lonely.process.kill()
        lonely.process.wait()
        with pytest.raises((RuntimeError, OSError)):
            forked.Popen(program("pass"))
