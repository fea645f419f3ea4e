"""What a training step costs with one thread and with several, on an idle machine and beside a busy process.

python -m benchmarks.threads --rounds 4 --seconds 6

Each way to thread has a process of its own that has loaded the embedded base; they take turns, so that
whatever else the machine does falls on all alike. A busy process computes on one core and never waits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from perfusion_registry.threads import SPINS

WAYS = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "a thread for each core": {},
    "that sleeps soon": {"GOMP_SPINCOUNT": SPINS},
    "that sleeps at once": {"OMP_WAIT_POLICY": "PASSIVE"},
}
BESIDE = (0, 1, 2)
"""How many busy processes there are."""
BUSY = "while True: pass"
PICTURES = sorted((Path(__file__).parents[1] / "recipes" / "teddy").glob("*.png"))


def step_times() -> None:
    """The child: for each line of seconds, train for so long, and print how long each step took."""
    import torch

    from perfusion_registry.base import describe_base, load_base
    from perfusion_registry.build import ConceptSources, load_covariance
    from perfusion_registry.build.concept import training_inputs
    from perfusion_registry.build.training import repeatable, training_step
    from perfusion_registry.methods.perfusion import METHOD
    from perfusion_registry.methods.perfusion.options import PerfusionRecipe
    from perfusion_registry.recipe.recipe import LearnedSection
    from perfusion_registry.reporter import Silent

    description = describe_base("storybook")
    base = load_base(description, device="cpu")
    section = LearnedSection(name="teddy", version="1.0.0", supercategory="teddy", images=("*.png",))
    options = METHOD.resolve_train(PerfusionRecipe(concept=section), description.card.train)
    sources = ConceptSources("teddy", "1.0.0", "teddy", tuple(PICTURES))
    covariance = load_covariance(description.covariance)
    inputs, _ = training_inputs(METHOD.trainable, METHOD, base, covariance, sources, options, Silent())
    state = inputs.begin()
    residual = state.concept.factors(state.concept.parameters)
    with repeatable(base.device), base.attached([residual], everywhere=True):
        training_step(inputs, state)
        print(torch.get_num_threads(), flush=True)
        for line in sys.stdin:
            end, times = time.perf_counter() + float(line), []
            while time.perf_counter() < end:
                begun = time.perf_counter()
                training_step(inputs, state)
                times.append(round(time.perf_counter() - begun, 4))
            print(json.dumps(times), flush=True)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return step_times()
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    plain = {name: value for name, value in os.environ.items() if name not in names}
    children = {}
    for way, variables in WAYS.items():
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.threads", "--child"],
            env=plain | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        print(f"{way}: {child.stdout.readline().strip()} of {os.cpu_count()} cores", flush=True)
        children[way] = child
    times: dict[tuple[str, int], list[float]] = {(way, count): [] for way in WAYS for count in BESIDE}
    for _ in range(arguments.rounds):
        for count in BESIDE:
            with busy(count):
                for way, child in children.items():
                    assert child.stdin is not None
                    assert child.stdout is not None
                    child.stdin.write(f"{arguments.seconds}\n")
                    child.stdin.flush()
                    times[way, count] += json.loads(child.stdout.readline())
    for child in children.values():
        child.kill()
    for (way, count), steps in times.items():
        beside = f"beside {count} busy" if count else "idle"
        mean = sum(steps) / len(steps)
        print(f"{way}, {beside}: {median(steps):.3f} s a step (mean {mean:.3f}, {len(steps)})")
    return None


if __name__ == "__main__":
    main()
