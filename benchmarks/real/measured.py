"""Run one program in a process of its own, and write how long it took and how much memory it had at most.

    python -m benchmarks.real.measured RESULT.json SCRIPT-OR-MODULE ARGUMENT...

All sides of a comparison are measured so: from the start of Python to its end, imports included.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peak import highest_mib
from perfusion_registry.errors import PerfError


def run(result: Path, program: Sequence[str], *, goes_on: bool = False) -> dict[str, Any]:
    """What was measured of a program, unless it was measured before.

    What it says goes into a file beside `result`. goes_on: after it was killed it does what is left, so that
    its seconds are too few, which `interrupted` says; else it begins anew. Raises PerfError where it fails.
    """
    if result.exists():
        known: dict[str, Any] = json.loads(result.read_text("utf-8"))
        return known
    result.parent.mkdir(parents=True, exist_ok=True)
    begun, log = result.with_suffix(".begun"), result.with_suffix(".log")
    again = begun.exists()
    begun.touch()
    half = result.with_suffix(".half")
    half.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.real.measured", str(half.absolute()), *program]
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    print(f"  what it says goes into {log}", flush=True)
    with log.open("ab") as said:
        environment = {**os.environ, "PYTHONPATH": paths}
        code = subprocess.run(command, stdout=said, stderr=said, env=environment, check=False).returncode
    if code or not half.exists():
        tail = log.read_text("utf-8", errors="replace").strip().splitlines()[-1:]
        raise PerfError(
            f"it ended with {code}: {tail[0] if tail else 'it said nothing'}",
            where=str(log),
            hint="see that file",
        )
    measured: dict[str, Any] = json.loads(half.read_text("utf-8")) | {
        "interrupted": goes_on and again,
        "program": [*program],
    }
    half.write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
    half.rename(result)
    begun.unlink()
    return measured


def main() -> None:
    result, program, *arguments = sys.argv[1:]
    began = time.perf_counter()
    sys.argv = [program, *arguments]
    try:
        if program.endswith(".py"):
            sys.path[0] = str(Path(program).parent)
            runpy.run_path(program, run_name="__main__")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    taken = {"seconds": time.perf_counter() - began, **peak()}
    Path(result).write_text(json.dumps(taken), "utf-8")


def peak() -> dict[str, Any]:
    """GiB at most of this process: of a GPU where it used one, else resident."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized() and torch.cuda.max_memory_allocated():
        return {"peak_gib": torch.cuda.max_memory_allocated() / 2**30, "memory": torch.cuda.get_device_name()}
    return {"peak_gib": highest_mib() / 2**10, "memory": "resident"}


if __name__ == "__main__":
    main()
