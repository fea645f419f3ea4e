"""Python programs as processes of their own, forked from one that has everything imported already.

`Popen` and `run` are those of `subprocess`. A command `[sys.executable, "-c", program, *arguments]` is not
executed, which would import torch, diffusers and transformers each time (seven seconds of computing), but
forked from a server: a process that has imported them, has done nothing else, and has one thread. It is
started when first needed, shared by the processes of xdist, and ends with the last of them. What is forked
has its own process, folder, environment, standard streams, exit code and signals, and ends as an
interpreter ends.

A command is executed after all, by `subprocess`, where forking it could give another result: when it is no
such command, when one of its streams is a terminal, when its environment differs from the server's in another
variable than those of `ASKED` (libraries read some while they are imported), and on systems other than Linux.

Where its environment has `POOLS`, the server of a pool of processes (`perf build --jobs 2`) is forked from
the command too, instead of importing PyTorch for itself.

What a fork cannot show: what a command imports, what happens before and during the imports, and (since all
children of a server share its hash seed) that no result depends on the order of a set. For those there is
`subprocess`; tests/cli/test_forked.py compares the two. The server itself is `tests/fork_server.py`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import filelock

ROOT = Path(__file__).parents[1]
ASKED = {
    "COLUMNS", "COMP_CWORD", "COMP_WORDS", "FORCE_COLOR", "HF_TOKEN", "NETRC", "NO_COLOR",
    "TORCHINDUCTOR_CACHE_DIR",
}  # fmt: skip
"""Variables that nothing reads while it is imported (the last is one that torch sets itself, when first asked
for it); and all that begin with PERF_, _PERF_, PYTEST_."""

POOLS = "PYTEST_FORKED_POOLS"
"""Where a command's environment has it, servers of pools are forked as well."""

NUMBER = struct.Struct("i")
"""As which a child's number and its wait status travel."""


class Popen(subprocess.Popen):
    """`subprocess.Popen`, forked where that is the same. Commands that are forked hear Ctrl-C.

    forked: whether it was.
    """

    forked = False

    def _execute_child(  # type: ignore[override,no-untyped-def]
        self,
        args,
        executable,
        preexec_fn,
        close_fds,
        pass_fds,
        cwd,
        env,
        startupinfo,
        creationflags,
        shell,
        *rest,
    ) -> None:
        ends, session = rest[:6], rest[11]
        streams = [end if end != -1 else own for own, end in enumerate((ends[0], ends[3], ends[5]))]
        environment = dict(os.environ if env is None else env)
        plain = not (executable or preexec_fn or pass_fds or shell) and is_program(args)
        if not (plain and forks(environment) and not any(map(os.isatty, streams))):
            given = (executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell)
            super()._execute_child(args, *given, *rest)  # type: ignore[misc]
            return
        request = {
            "argv": ["-c", *map(os.fspath, args[3:])],
            "program": args[2],
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": environment,
            "session": session,
        }
        self._line, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(server().control, [b"f"], [*streams, theirs.fileno()])
        self._line.sendall(json.dumps(request).encode() + b"\n")
        self.pid = self._hear()
        self.forked = self._child_created = True
        self._close_pipe_fds(*ends)  # type: ignore[attr-defined]

    def _internal_poll(self, *args: Any, **options: Any) -> int | None:
        if not self.forked:
            return super()._internal_poll(*args, **options)  # type: ignore[misc,no-any-return]
        if self.returncode is None and select.select([self._line], [], [], 0)[0]:
            self._end()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if not self.forked:
            return super()._wait(timeout)  # type: ignore[misc,no-any-return]
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._end()
        return self.returncode

    def _end(self) -> None:
        self.returncode = os.waitstatus_to_exitcode(self._hear())
        self._line.close()

    def _hear(self) -> int:
        said = self._line.recv(NUMBER.size, socket.MSG_WAITALL)
        if len(said) < NUMBER.size:
            raise RuntimeError("the process that forks for the tests has ended; its complaint is on stderr")
        return int(NUMBER.unpack(said)[0])


def run(
    command: Sequence[str],
    *,
    input: Any = None,
    capture_output: bool = False,
    check: bool = False,
    timeout: float | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run`, forked where that is the same."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def is_program(command: Any) -> bool:
    """Whether it is `[sys.executable, "-c", program, ...]`."""
    return not isinstance(command, str | bytes | os.PathLike) and list(command[:2]) == [sys.executable, "-c"]


def forks(environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment can be forked from the server."""
    return sys.platform == "linux" and read_at_import(environment) == server().environment


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """What libraries may have read of it while they were imported."""
    return {
        name: value
        for name, value in environment.items()
        if name not in ASKED and not name.startswith(("PERF_", "_PERF_", "PYTEST_"))
    }


_AT_FIRST = read_at_import(os.environ)
"""Before any test changed it."""


class Server:
    """The process that forks, seen from here.

    control: takes the three streams of a new process and a line, a socket for all that concerns it alone: its
    request in JSON one way, its number and in the end its wait status the other way. environment: what
    libraries may have read of its own while they were imported. process: where it was started here.
    """

    process: subprocess.Popen[bytes] | None = None

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        with control.makefile("rb") as file:
            self.environment: dict[str, str] = json.loads(file.readline() or b"{}")

    @classmethod
    def started(cls, listener: socket.socket, bare: bool = False) -> Server:
        """A new one, which takes others that connect to `listener` too. bare: as `alone` has it."""
        text = "__import__('tests.fork_server', fromlist=['serve']).serve()"
        control, theirs = socket.socketpair()
        with theirs:
            files = [theirs.fileno(), listener.fileno()]
            process = subprocess.Popen(
                [sys.executable, "-c", text, *map(str, files), *(["bare"] if bare else [])],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_AT_FIRST,
                cwd=ROOT,
                pass_fds=files,
            )
        made = cls(control)
        made.process = process
        return made


def alone(bare: bool = False) -> Server:
    """A server at an address that nobody else knows. bare: it imports nothing beforehand, as is enough to see
    how a server lives and ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        return Server.started(listener, bare)


@cache
def server() -> Server:
    """The server of this process, and of the others of the same run of xdist."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return alone()
    address = f"\0perf-tests-{run}"
    with filelock.FileLock(Path(tempfile.gettempdir()) / f"perf-tests-{run}.lock"):
        control = socket.socket(socket.AF_UNIX)
        try:
            control.connect(address)
        except ConnectionRefusedError:  # none yet, or those that had it have ended
            control.close()
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(address)
                listener.listen()
                return Server.started(listener)
    return Server(control)
