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
`subprocess`; tests/cli/test_forked.py compares the two.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from multiprocessing import util
from pathlib import Path
from typing import Any

import filelock

from tests.signatures import keep_signatures

ROOT = Path(__file__).parents[1]
ASKED = {
    "COLUMNS", "COMP_CWORD", "COMP_WORDS", "FORCE_COLOR", "HF_TOKEN", "NETRC", "NO_COLOR",
    "TORCHINDUCTOR_CACHE_DIR",
}  # fmt: skip
"""Variables that nothing reads while it is imported (the last is one that torch sets itself, when first asked
for it); and all that begin with PERF_, _PERF_, PYTEST_."""

POOLS = "PYTEST_FORKED_POOLS"
"""See above."""

VARIABLES_READ: set[str] = set()
"""The environment variables that were read while `serve` imported: another value comes too late in a fork."""

_NUMBER = struct.Struct("i")


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
        said = self._line.recv(_NUMBER.size, socket.MSG_WAITALL)
        if len(said) < _NUMBER.size:
            raise RuntimeError("the process that forks for the tests has ended; its complaint is on stderr")
        return int(_NUMBER.unpack(said)[0])


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
        text = "__import__('tests.forked', fromlist=['serve']).serve()"
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


def serve() -> None:
    """Fork for whoever is at the other end of the socket `sys.argv[1]`, and for those who connect to the
    socket `sys.argv[2]`, until there is none of them. In each child, run its program. With a third argument
    nothing is imported beforehand."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.fsync = lambda _: None  # as in tests/conftest.py
    atexit.register(_leave)  # before any other, so that it comes last
    first, listener = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    environment = json.dumps(dict(os.environ)).encode() + b"\n"
    path = list(sys.path)
    gc.disable()  # an eighth of the imports is looking for circles
    if len(sys.argv) == 3:
        with noting(VARIABLES_READ):
            preload()
    sys.path[:] = path  # PyTorch 2.9 appends a folder when it is imported: a new interpreter has none yet
    gc.enable()
    gc.collect()
    gc.freeze()
    lines: dict[int, tuple[int, socket.socket]] = {}  # by the file that tells of a child's end
    controls = {first}
    first.sendall(environment)
    while controls:
        ready, _, _ = select.select([listener, *controls, *lines], [], [])
        for ended in lines.keys() & set(ready):
            child, line = lines.pop(ended)
            os.close(ended)
            with line, contextlib.suppress(OSError):  # nobody may wait for it any more
                line.sendall(_NUMBER.pack(os.waitpid(child, 0)[1]))
        if listener in ready:
            another, _ = listener.accept()
            another.sendall(environment)
            controls.add(another)
        control = next((one for one in controls if one in ready), None)
        if control is None:
            continue
        asked, files, _, _ = socket.recv_fds(control, 1, 4)
        if not asked:
            controls.discard(control)
            control.close()
            continue
        if len(os.listdir("/proc/self/task")) > 1:
            raise RuntimeError("something that was imported has started a thread: no process can be forked")
        *streams, number = files
        line = socket.socket(fileno=number)
        child = os.fork()
        if not child:
            for own in (listener, *controls, *(other for _, other in lines.values())):
                own.close()
            for ended in lines:
                os.close(ended)
            _execute(_become(streams, line))
            return
        lines[os.pidfd_open(child)] = child, line
        line.sendall(_NUMBER.pack(child))
        for stream in streams:
            os.close(stream)
    os._exit(0)


@contextlib.contextmanager
def noting(read: set[str]) -> Iterator[None]:
    """A context that puts the name of every environment variable that is looked up into `read`."""
    get = os._Environ.__getitem__

    def note(environment: os._Environ[str], name: str) -> str:
        read.add(name)
        return get(environment, name)

    os._Environ.__getitem__ = note  # type: ignore[method-assign]
    try:
        yield
    finally:
        os._Environ.__getitem__ = get  # type: ignore[method-assign]


def preload() -> None:
    """Import all that a command may need, and nothing that starts a thread."""
    import diffusers
    import transformers

    import perfusion_registry

    for name in ("StableDiffusionPipeline", "AutoencoderKL", "UNet2DConditionModel", "DDIMScheduler"):
        getattr(diffusers, name)
    for name in ("AutoModel", "CLIPModel", "CLIPSegForImageSegmentation", "CLIPTextModel", "CLIPTokenizer"):
        getattr(transformers, name)
    for module in pkgutil.walk_packages(perfusion_registry.__path__, "perfusion_registry."):
        importlib.import_module(module.name)
    keep_signatures()


def _become(streams: Sequence[int], line: socket.socket) -> str:
    """Make this child the process that was asked for; its program."""
    with line, line.makefile("rb") as file:
        request = json.loads(file.readline())
    for own, stream in enumerate(streams):
        os.dup2(stream, own)
    for stream in streams:
        os.close(stream)
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    _open_streams()
    if POOLS in os.environ:
        fork_pools()
    sys.argv[:] = request["argv"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "torch" in sys.modules:
        sys.modules["numpy"].random.seed()  # as `random` does after every fork
        sys.modules["torch"].default_generator.seed()
    return str(request["program"])


def fork_pools() -> None:
    """From now on fork the servers of `multiprocessing`, while this process has one thread."""
    execute = util.spawnv_passfds  # type: ignore[attr-defined]

    def fork(path: bytes, arguments: Sequence[str], kept: Sequence[int]) -> int:
        program = arguments[-1]
        if "forkserver import main" not in program or len(os.listdir("/proc/self/task")) > 1:
            return int(execute(path, arguments, kept))
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            return child
        for number in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, *kept}:
            with contextlib.suppress(OSError):
                os.close(number)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):  # as executing undoes it
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            exec(program, {})
        except SystemExit:
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)

    util.spawnv_passfds = fork  # type: ignore[attr-defined]


def _open_streams() -> None:
    """stdout and stderr as a new interpreter has them: the parent's remember what they were opened on."""
    made = []
    for number, old in ((1, sys.stdout), (2, sys.stderr)):
        assert isinstance(old, io.TextIOWrapper)
        raw = io.FileIO(number, "wb", closefd=False)
        raw.name = old.name  # type: ignore[misc]
        buffer = raw if isinstance(old.buffer, io.FileIO) else io.BufferedWriter(raw)
        new = io.TextIOWrapper(
            buffer,  # type: ignore[arg-type]
            old.encoding,
            old.errors,
            "\n",
            old.line_buffering,
            old.write_through,
        )
        new.mode = old.mode
        made.append(new)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = made


_code: list[int] = []
"""The exit code of a child, once its program has ended with one."""


def _execute(program: str) -> None:
    """Run it as the interpreter would, and remember what it ends with."""
    try:
        exec(compile(program, "<string>", "exec"), sys.modules["__main__"].__dict__)
    except KeyboardInterrupt:
        raise  # ends with a signal
    except SystemExit as end:
        _code.append(end.code if isinstance(end.code, int) else end.code is not None)
        raise
    except BaseException:
        _code.append(1)
        raise
    _code.append(0)


def _leave() -> None:
    """The very end of a child: instead of taking every imported module apart, which takes half a second.

    By now the interpreter has printed what ended the program, joined its threads and called all that was
    registered for the end.
    """
    sys.modules["__main__"].__dict__.clear()
    gc.collect()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # the interpreter says it its own way
    if _code:
        os._exit(_code[0] & 0xFF)
