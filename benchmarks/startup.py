"""How long commands take to start, beside what Python alone takes, in processes run in turns.

python -m benchmarks.startup --rounds 30
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median

PERF = "from perfusion_registry.cli import main; main()"
HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "numpy",
    "rich",
    "pydantic",
    "packaging",
    "typer",
    "platformdirs",
)


def commands(folder: Path) -> dict[str, list[str]]:
    """What is measured: each command line, in a project of two concepts that are not built."""
    perf = {
        "perf --help": ["--help"],
        "perf --version": ["--version"],
        "perf build --help": ["build", "--help"],
        "perf cache dir": ["cache", "dir"],
        "perf sync": ["sync"],
        "perf list": ["list"],
        "perf lock --check": ["lock", "--check"],
        "perf metadata": ["metadata", "--format-version", "1"],
        "a mistake in an option": ["render", "a teddy*", "--bias", "x"],
        "a concept that is not there": ["render", "a tedy*"],
    }
    python = {"python -c pass": "pass", "import typer": "import typer", "import pydantic": "import pydantic"}
    return {name: [sys.executable, "-c", text] for name, text in python.items()} | {
        name: [sys.executable, "-c", PERF, *arguments] for name, arguments in perf.items()
    }


def once(command: list[str], folder: Path) -> float:
    """Seconds until the process has ended."""
    begun = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - begun


def imported(arguments: list[str], folder: Path) -> list[str]:
    """Which heavy libraries a command imports."""
    program = (
        f"import sys; sys.argv = {['perf', *arguments]!r}\n"
        f"try:\n    {PERF}\nexcept SystemExit: pass\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    return run.stderr.strip().split("\n")[-1].split()


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    root = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ |= {"PERF_CACHE_DIR": str(folder / "store"), "PYTHONPATH": str(root)}
        text = (root / "perfusion.toml").read_text(encoding="utf-8").replace("recipes/", f"{root}/recipes/")
        (folder / "perfusion.toml").write_text(text, encoding="utf-8")
        subprocess.run([sys.executable, "-c", PERF, "lock"], cwd=folder, capture_output=True, check=True)
        measured = commands(folder)
        times: dict[str, list[float]] = {name: [] for name in measured}
        order, chance = list(measured), Random(0)
        for number in range(options.rounds + 1):
            chance.shuffle(order)
            for name in order:
                took = once(measured[name], folder)
                if number:  # the first round fills the disk's cache
                    times[name].append(took)
        for name, command in measured.items():
            row = {
                "command": name,
                "median_ms": round(1000 * median(times[name]), 1),
                "least_ms": round(1000 * min(times[name]), 1),
            }
            if PERF in command:
                row["imports"] = ", ".join(imported(command[3:], folder))
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
