"""SIGKILL at random moments across build, publish, sync and prune: what is left, and whether it goes on.

Each round forks a process that does the work, kills it at a moment drawn evenly from the time that the work
takes, and looks: every artifact and blob must have its hash, every lockfile and index must parse, no lock
may be held. Then the same work runs again, undisturbed, and must complete. Forking spares the imports, which
would take most of the kills.

    python -m benchmarks.kill --kills 500
    python -m benchmarks.kill --kills 200 --backend s3 --only publish --only sync

The servers of `--backend` are moto, docker-registry, and one that speaks the Hub's API; each is started here.
With `--results FILE` the figures are kept there after every few kills, and another run goes on from them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks import servers
from perfusion_registry.artifact import Store, save_artifact
from perfusion_registry.artifact.lockfiles import note_lockfile
from perfusion_registry.artifact.pruning import prune
from perfusion_registry.artifact.verification import verify_store
from perfusion_registry.file_lock import file_lock
from perfusion_registry.recipe import LockedBase, LockedConcept, Lockfile, read_lockfile, write_lockfile
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.registries.release import Release
from tests.artifact.samples import artifact
from tests.registries.samples import release

PATIENCE = 120.0  # seconds without computing, or of computing, after which a run that should complete hangs
CONCEPTS = 12


@dataclass
class Tally:
    """What came of the kills of one operation."""

    kills: int = 0
    too_late: int = 0
    corrupt: int = 0
    stuck: int = 0
    failed: int = 0
    told: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not (self.corrupt or self.stuck or self.failed)


class Operation:
    """Work that is killed. `ready` sets the stage for another round; `work` runs in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def ready(self, number: int) -> None:
        raise NotImplementedError

    def work(self) -> None:
        raise NotImplementedError

    def wrong(self) -> list[str]:
        """What is corrupt, in any state between."""
        raise NotImplementedError

    def undone(self) -> list[str]:
        """What is missing when the work has completed."""
        raise NotImplementedError

    def locks(self) -> Iterator[Path]:
        """The files that are locks. A project's lockfile ends like them and is none."""
        return (path for path in self.folder.rglob("*.lock") if path.name != "perfusion.lock")


class Publish(Operation):
    """A new version of one concept in each round, with bytes of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self.url = url
        self.published: list[Release] = []

    def ready(self, number: int) -> None:
        self.blob = os.urandom(30_000)
        self.release = release(f"1.{number}.0", self.blob)
        self.published.append(self.release)

    def work(self) -> None:
        self._registry("publisher").publish(self.release, self.blob)

    def wrong(self) -> list[str]:
        registry, told = self._registry("judge"), []
        known = {one.version: one for one in self.published}
        for listing in registry.versions("teddy"):
            if known.get(listing.release.version) != listing.release:
                told.append(f"{listing.release.version} is not what was published")
        for listing in registry.versions("teddy")[-2:]:
            if len(b"".join(registry.blob(listing.release))) != listing.release.size:
                told.append(f"the blob of {listing.release.version} is not whole")
        return told

    def undone(self) -> list[str]:
        there = [listing.release for listing in self._registry("judge").versions("teddy")]
        return [one.version for one in self.published if one not in there]

    def _registry(self, who: str):  # type: ignore[no-untyped-def]
        return open_registry(self.url, name="kill", root=Path("/"), cache=self.folder / who)


class Sync(Operation):
    """A cold store in each round, and a lockfile alone that names concepts of a registry."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self.project, self.store = folder / "project", folder / "store"
        self.project.mkdir(exist_ok=True)
        blocks, releases = [], []
        for number in range(CONCEPTS):
            name = f"bear-{number}"
            blob = save_artifact(artifact(name=name))
            told = release("1.0.0", blob, name=name)
            releases.append((told, blob))
            gate = {"bias": 0.65, "temperature": 0.15, "key_lock": "local"}
            source = f"registry+{url}"
            block = {
                "name": name,
                "version": "1.0.0",
                "source": source,
                "sha256": told.sha256,
                "size": len(blob),
            }
            blocks.append(LockedConcept(**block, render=gate))
        base = LockedBase(repo="storybook", family="f" * 64, digest="b" * 64)
        write_lockfile(self.project / "perfusion.lock", Lockfile(base=base, concepts=tuple(blocks)))
        self.blocks = blocks

        def publish() -> None:
            registry = open_registry(url, name="kill", root=Path("/"), cache=folder / "author")
            for told, blob in releases:
                registry.publish(told, blob)

        # In a process of its own: no thread of a client may live here when the next one is forked.
        if os.waitpid(_fork(publish), 0)[1]:
            raise SystemExit(f"the concepts to sync could not be published to {url}")

    def ready(self, number: int) -> None:
        shutil.rmtree(self.store, ignore_errors=True)

    def work(self) -> None:
        from perfusion_registry.operations.sync import SyncOptions, sync
        from perfusion_registry.operations.workspace import Workspace

        with Workspace.open(self.project, store=self.store, lockfile_alone=True) as workspace:
            sync(workspace, SyncOptions(frozen=True))

    def wrong(self) -> list[str]:
        read_lockfile(self.project / "perfusion.lock")
        return [damage.what for damage in verify_store(self.store, dry_run=True).damaged]

    def undone(self) -> list[str]:
        return [block.name for block in self.blocks if not Store(self.store).has(block.sha256 or "")]


class Prune(Operation):
    """A store of artifacts of which a known lockfile names a third."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.store = Store(folder / "store")
        self.blobs = [os.urandom(2_000) for _ in range(3 * CONCEPTS)]
        self.digests = [self.store.put(blob) for blob in self.blobs]
        lockfile = folder / "perfusion.lock"
        lockfile.write_text("".join(f'sha256 = "{digest}"\n' for digest in self.digests[::3]))
        note_lockfile(self.store.root, lockfile)

    def ready(self, number: int) -> None:
        for digest, blob in zip(self.digests, self.blobs, strict=True):
            path = self.store.path(digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(blob)
        self.store.record(f"{number:064x}", self.digests[1])
        (self.store.workspace(f"{number:064x}") / "training.safetensors").write_bytes(b"half")

    def work(self) -> None:
        prune(self.store.root)

    def wrong(self) -> list[str]:
        told = [damage.what for damage in verify_store(self.store.root, dry_run=True).damaged]
        return told + [f"{digest} was locked" for digest in self.digests[::3] if not self.store.has(digest)]

    def undone(self) -> list[str]:
        left = [digest for n, digest in enumerate(self.digests) if n % 3 and self.store.path(digest).exists()]
        return left + [str(path) for path in (self.store.root / "trash").iterdir()]


class Build(Operation):
    """A concept on the tiny base, with another seed in each round; a killed build goes on where it was."""

    def __init__(self, folder: Path) -> None:
        import torch
        from PIL import Image
        from safetensors.torch import save_file

        import perfusion_registry.base.loading
        import perfusion_registry.build.concept  # noqa: F401 (so that no fork has to)
        from tests.tiny import save_tiny_base

        super().__init__(folder)
        torch.set_num_threads(1)
        save_tiny_base(folder / "base")
        sample = torch.randn(200, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        save_file({"C": sample.T @ sample / 200}, folder / "C.safetensors")
        for number in range(2):
            Image.effect_noise((64, 64), 60 + 30 * number).convert("RGB").save(folder / f"{number}.png")
        (folder / "perfusion.toml").write_text(
            '[project]\nname = "kill"\nbase = "./base"\ncovariance = "C.safetensors"\n'
            '[concepts]\nbear = { recipe = "bear.toml" }\n'
        )

    def ready(self, number: int) -> None:
        os.environ["PERF_CACHE_DIR"] = str(self.folder / "store")
        (self.folder / "bear.toml").write_text(
            '[concept]\nname = "bear"\nversion = "1.0.0"\nsupercategory = "teddy"\nimages = ["*.png"]\n'
            f'[train]\nseed = {number}\nsteps = 8\nvalidate_every = 4\nmask = "none"\nvalidation_steps = 1\n'
            'validation_prompts = ["a photo of a {}"]\n'
        )

    def work(self) -> None:
        from perfusion_registry.operations.build import BuildOptions, build
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.workspace import Workspace

        with Workspace.open(self.folder) as workspace:
            build(workspace, BuildOptions(compute=ComputeOptions("cpu", "fp32")))

    def wrong(self) -> list[str]:
        if (self.folder / "perfusion.lock").exists():
            read_lockfile(self.folder / "perfusion.lock")
        return [damage.what for damage in verify_store(self.folder / "store", dry_run=True).damaged]

    def undone(self) -> list[str]:
        from perfusion_registry.operations.plan import load_plan
        from perfusion_registry.operations.workspace import Workspace

        with Workspace.open(self.folder) as workspace:
            return [task.reason for task in load_plan(workspace).plan.needed]


def measure(
    operation: Operation,
    kills: int,
    chance: Random,
    tally: Tally | None = None,
    keep: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Kill the operation until there were so many; a round that ended before its kill is drawn again.

    tally: of the kills before. keep: called with what there is, now and then.
    """
    tally = tally or Tally()
    operation.ready(0)
    lasts = _complete(operation, tally)
    number, most = 0, 4 * (kills - tally.kills)
    while tally.kills < kills and number < most and tally.failed < 5:
        number += 1
        operation.ready(number)
        begun = time.monotonic()
        child = _fork(operation.work)
        time.sleep(max(0.0, chance.uniform(0, lasts) - (time.monotonic() - begun)))
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        tally.kills += killed
        tally.too_late += not killed
        _look(operation.wrong, tally, "corrupt")
        tally.stuck += sum(held(path) for path in operation.locks())
        took = _complete(operation, tally)
        lasts = 0.8 * lasts + 0.2 * took
        if number % 5 == 0:
            keep(tally)
    keep(tally)
    return tally


def _complete(operation: Operation, tally: Tally) -> float:
    """Let the work run to its end; the seconds that it took."""
    begun = moved = time.monotonic()
    child = _fork(operation.work)
    spent = 0.0
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if _spent(child) > spent:
            spent, moved = _spent(child), time.monotonic()
        if spent > PATIENCE or time.monotonic() - moved > PATIENCE:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            tally.failed += 1
            tally.told.append("it hung")
            return PATIENCE
        time.sleep(0.001)
    took = time.monotonic() - begun
    if status:
        tally.failed += 1
        tally.told.append(f"it ended with {status}")
    _look(operation.undone, tally, "failed")
    _look(operation.wrong, tally, "corrupt")
    return took


def _spent(child: int) -> float:
    """The seconds that a process has computed; one that waits for its turn does not hang."""
    try:
        said = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # no such files here: all time counts as waiting
        return 0.0
    return (int(said[11]) + int(said[12])) / os.sysconf("SC_CLK_TCK")


def _look(at: Callable[[], list[str]], tally: Tally, what: str) -> None:
    """Count what a look finds; in a process of its own, since no thread of a client may live here."""
    reading, writing = os.pipe()
    child = _fork(lambda: os.write(writing, json.dumps(at())[:60_000].encode()) and None)
    os.close(writing)
    with open(reading, "rb") as pipe:
        data = pipe.read()
    found = ["the look itself failed"] if os.waitpid(child, 0)[1] else json.loads(data)
    if found:
        setattr(tally, what, getattr(tally, what) + 1)
        tally.told += found[:3]


def _fork(work: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:  # noqa: BLE001 (a child must never go on as its parent)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)


def held(path: Path) -> bool:
    """Whether anybody holds the lock of a file, whose content stays (old releases of filelock empty it)."""
    try:
        with file_lock(path, timeout=0):
            return False
    except TimeoutError:
        return True


@contextlib.contextmanager
def backend(name: str, folder: Path) -> Iterator[Callable[[int], str]]:
    """A registry's server; the addresses of empty registries on it, by number."""
    if name == "folder":
        yield lambda number: str(folder / f"finder-{number}")
    elif name == "s3":
        with servers.s3():
            yield lambda number: f"s3://studio/finder-{number}"
    elif name == "oci":
        with servers.oci(folder / "docker-registry") as address:
            yield lambda number: f"{address.replace('http:', 'oci:')}/finder-{number}"
    else:
        with servers.hub():
            yield lambda number: f"hf://studio/concepts@branch-{number}"


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500, help="over all operations")
    parser.add_argument("--backend", choices=("folder", "s3", "oci", "hub"), default="folder")
    parser.add_argument("--only", action="append", choices=("build", "publish", "sync", "prune"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="a JSON file of figures to go on from")
    options = parser.parse_args()
    chance = Random(options.seed)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["PERF_DATA_DIR"] = str(folder / "data")
        place = stack.enter_context(backend(options.backend, folder))
        makers: dict[str, Callable[[], Operation]] = {
            "publish": lambda: Publish(folder / "publish", place(0)),
            "sync": lambda: Sync(folder / "sync", place(1)),
            "prune": lambda: Prune(folder / "prune"),
            "build": lambda: Build(folder / "build"),
        }
        chosen = options.only or list(makers)
        results = {}
        for name in chosen:
            before, keep = kept(options.results, f"{options.backend} {name}")
            tally = measure(makers[name](), options.kills // len(chosen), chance, before, keep)
            results[name] = tally
            print(options.backend, name, told(tally), flush=True)
    print(json.dumps({"right": all(tally.right for tally in results.values())}))
    sys.exit(not all(tally.right for tally in results.values()))


def kept(results: Path | None, name: str) -> tuple[Tally, Callable[[Tally], None]]:
    """The figures of an earlier run, and what keeps those of this one."""
    if results is None:
        return Tally(), lambda tally: None

    def keep(tally: Tally) -> None:
        known = json.loads(results.read_text()) if results.exists() else {}
        replace_text(results, json.dumps(known | {name: tally.__dict__}, indent=2) + "\n")

    known = json.loads(results.read_text()) if results.exists() else {}
    return Tally(**known.get(name, {})), keep


def told(tally: Tally) -> str:
    """The figures in a line."""
    return json.dumps({**tally.__dict__, "told": dict(Counter(tally.told))})


if __name__ == "__main__":
    main()
