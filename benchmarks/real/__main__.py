"""Learn the subjects of a folder on a base, draw them, and write the table; diffusers' scripts beside perf.

    python -m benchmarks.real stable-diffusion-v1-5/stable-diffusion-v1-5@REVISION dreambooth/dataset \\
        --captions captions.txt --clip clip-vit-large-patch14 --dino dino-vits16 --out real \\
        --diffusers-examples ../diffusers

For a machine with a GPU; every model is a folder, or in the Hub's cache. `benchmarks/real/subjects.py` says
how a folder of subjects is laid out. What is done is kept under --out: the same command goes on where it was.
Every build and every script runs in a process of its own, which is measured whole. A script that fails is
named below the table, and nothing else waits for it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

CACHE = "PERF_CACHE_DIR"


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", help="as `perf init --base` takes it; diffusers' scripts need a folder")
    parser.add_argument("subjects", type=Path, help="a folder of folders of pictures")
    parser.add_argument(
        "--out", type=Path, default=Path("out/real"), help="where everything goes (default: %(default)s)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--covariance", type=Path, help="the covariance of the base, where it has none of its own"
    )
    how.add_argument("--captions", type=Path, help="captions to estimate it from, one a line")
    parser.add_argument(
        "--clip", type=Path, help="a CLIP model that chooses steps and scores; else the base's own"
    )
    parser.add_argument("--dino", type=Path, help="a DINO model that scores too (default: none)")
    parser.add_argument(
        "--prompts", type=Path, help="templates, one a line, with {} for the subject (default: eight)"
    )
    parser.add_argument("--seeds", type=int, default=4, help="pictures of each prompt (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="denoising steps (default: the base's, else 50)")
    parser.add_argument("--guidance", type=float, help="of the prompt (default: the base's, else 6)")
    parser.add_argument("--train-steps", type=int, help="of perf; by default the base's, else the paper's")
    parser.add_argument("--device", help="as `perf build --device` (default: auto)")
    parser.add_argument("--dtype", help="as `perf build --dtype` (default: auto)")
    parser.add_argument(
        "--diffusers-examples",
        type=Path,
        metavar="FOLDER",
        help="a checkout of diffusers, whose scripts are run too (default: perf alone)",
    )
    parser.add_argument(
        "--script-arguments",
        default="",
        help="for all of diffusers' scripts, behind their own: '--mixed_precision fp16'",
    )
    return parser.parse_args(arguments)


def main() -> None:
    from perfusion_registry.errors import PerfError

    try:
        measure(parsed())
    except PerfError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        sys.exit(130)


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Do all that is missing, write report.md and report.json, and return what the latter says."""
    from benchmarks.real.comparison import Comparison

    out: Path = asked.out
    out.mkdir(parents=True, exist_ok=True)
    os.environ[CACHE] = str((out / "cache").absolute())  # nothing that was built elsewhere
    return Comparison.of(asked).run()


if __name__ == "__main__":
    main()
