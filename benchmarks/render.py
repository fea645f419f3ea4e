"""What two concepts cost a render: whole pictures with them and without any, turn by turn, on Storybook.

The concepts are trained for two steps only: a render takes as long with any. Composing and packing are within
the measured time.

    python -m benchmarks.render --out render.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

from benchmarks.concepts import built
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.render import native_values, render, resolve_request

WITH, WITHOUT = "A teddy* sailing in a teapot*", "A teddy sailing in a teapot"


def seconds(base: Base, prompt: str, artifacts: dict[str, Artifact], count: int, steps: int) -> float:
    """Of composing and drawing `count` pictures of a prompt, one after another."""
    began = time.perf_counter()
    concepts = {name: Concept(artifact, "0" * 64) for name, artifact in artifacts.items()}
    composition = compose(parse_prompt(prompt), concepts, base)
    given = {"seeds": tuple(range(count)), "batch": 1, "steps": steps}
    request = resolve_request(given, base.description.card.render, native=native_values(base))
    for _ in render(base, composition, request, artifacts):
        pass
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=9, help="of each kind, after one more to warm up")
    parser.add_argument("--count", type=int, default=2, help="pictures a turn")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    options = parser.parse_args()
    base = load_base(describe_base("storybook"))
    artifacts = {name: built(base, name, steps=2, validate_every=2) for name in ("teddy", "teapot")}
    taken: dict[str, list[float]] = {"with": [], "without": []}
    for turn in range(options.turns + 1):
        pair = {
            "with": seconds(base, WITH, artifacts, options.count, options.steps),
            "without": seconds(base, WITHOUT, {}, options.count, options.steps),
        }
        if turn:
            for name, value in pair.items():
                taken[name].append(value / options.count)
    ratios = [a / b for a, b in zip(taken["with"], taken["without"], strict=True)]
    report = {
        "steps": options.steps,
        "seconds_with_two_concepts": statistics.median(taken["with"]),
        "seconds_without": statistics.median(taken["without"]),
        "ratio": statistics.median(ratios),
        "ratios": [round(ratio, 4) for ratio in sorted(ratios)],
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"{options.steps} steps: {report['seconds_with_two_concepts']:.2f} s with two concepts, "
        f"{report['seconds_without']:.2f} s without; ratio {report['ratio']:.3f} (median of {options.turns})"
    )


if __name__ == "__main__":
    main()
