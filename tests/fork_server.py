"""The process that forks the tests' programs (see `tests/forked.py`), and what makes each of its children the
process that was asked for."""

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
import sys
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing import util

from tests.forked import NUMBER, POOLS
from tests.signatures import keep_signatures

VARIABLES_READ: set[str] = set()
"""The environment variables that were read while `serve` imported: another value comes too late in a fork."""


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
                line.sendall(NUMBER.pack(os.waitpid(child, 0)[1]))
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
        line.sendall(NUMBER.pack(child))
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
