"""Builds on a cluster whose nodes are killed at random: nothing may be lost, done twice, or other than on
one machine.

Ray's own cluster of several nodes on this machine, each with its own home, cache and work folder; they share
the address of a store and nothing else. A node that is killed (the raylet and all that it has started, at
once) is replaced by a new one with an empty home. Then one machine builds the same, and every artifact is
compared.

    python -m benchmarks.cluster --builds 200 --kills 30 --nodes 4
    python -m benchmarks.cluster --builds 12 --kills 3 --nodes 2 --steps 20
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from perfusion_registry.recipe import read_lockfile
from tests.cluster.nodes import Nodes
from tests.cluster.test_story import PERF, person, several
from tests.tiny import save_tiny_base


@dataclass
class Tally:
    """What came of it. resumed: tasks that went on from another machine's checkpoint. lost: concepts that
    are not built; other: whose bytes differ; twice: finished on more than one node. seconds: on the cluster;
    alone: on one machine, with one thread."""

    builds: int
    kills: int = 0
    resumed: int = 0
    lost: int = 0
    other: int = 0
    twice: int = 0
    seconds: float = 0.0
    alone: float = 0.0

    @property
    def right(self) -> bool:
        return not (self.lost or self.other or self.twice)


def run(place: Path, builds: int, kills: int, nodes: int, steps: int, chance: Random) -> Tally:
    """Build, kill, compare. place: an empty folder."""
    (place / "made").mkdir()
    project = several(place / "made", save_tiny_base(place / "base"), count=builds, steps=steps)
    here, environment = person(place / "ann", project)
    shared, tally = place / "shared", Tally(builds)
    with Nodes(place / "nodes", PERF_CHECKPOINT_SECONDS="0.5") as cluster:
        for _ in range(nodes):
            cluster.add()
        command = [*PERF, "build", "--on", cluster.address, "--shared-store", str(shared)]
        begun = time.monotonic()
        with (place / "told").open("w") as told:
            building = subprocess.Popen(command, cwd=here, env=environment, stdout=told, stderr=told)
        # A kill after every so many concepts, at a moment within the next one.
        for number in range(kills):
            due = builds * (number + chance.random()) / (kills + 1)
            while building.poll() is None and done(shared) < due:
                time.sleep(0.1)
            time.sleep(chance.uniform(0, 2))
            if building.poll() is not None:
                break
            cluster.kill(chance.choice(sorted(cluster.alive)))
            cluster.add()
            tally.kills += 1
            print(json.dumps({"kills": tally.kills, "done": done(shared)}), file=sys.stderr, flush=True)
        building.wait()
        tally.seconds = round(time.monotonic() - begun, 1)
    tally.resumed = (place / "told").read_text().count("goes on after step")
    begun = time.monotonic()
    alone, environment = person(place / "bob", project)
    subprocess.run([*PERF, "build", "--threads", "1", "--quiet"], cwd=alone, env=environment, check=True)
    tally.alone = round(time.monotonic() - begun, 1)
    compare(place, here, alone, tally)
    return tally


def done(shared: Path) -> int:
    """How many artifacts are in the shared store."""
    return len(list(shared.glob("artifacts/*/*")))


def compare(place: Path, here: Path, alone: Path, tally: Tally) -> None:
    """Count what is lost, other than on one machine, or finished twice."""
    locked = here / "perfusion.lock"
    there = {one.name: one.sha256 for one in read_lockfile(locked).concepts} if locked.exists() else {}
    for one in read_lockfile(alone / "perfusion.lock").concepts:
        name = f"artifacts/{(one.sha256 or '')[:2]}/{one.sha256}.safetensors"
        if one.name not in there:
            tally.lost += 1
        elif there[one.name] != one.sha256 or not (place / "ann" / "cache" / name).is_file():
            tally.other += 1
        tally.twice += len(list((place / "nodes").glob(f"node-*/cache/{name}"))) > 1


def main() -> None:
    """Run and print the figures."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--builds", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asked = options.builds, options.kills, options.nodes, options.steps
        tally = run(Path(folder), *asked, Random(options.seed))
        if not tally.right:
            print((Path(folder) / "told").read_text()[-5000:], file=sys.stderr)
    print(json.dumps({"right": tally.right, **asdict(tally)}))
    sys.exit(not tally.right)


if __name__ == "__main__":
    main()
