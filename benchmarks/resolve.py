"""How long resolution takes over a registry of 10,000 concepts with 20 versions each.

    python -m benchmarks.resolve [--concepts N] [--versions M]

First with all indexes at hand in memory: every concept at once, and every concept where one in ten is a scene
pack and two requirements force the search. Then with the index on disk, its reading in the figure: a folder
registry, and what is remembered of a remote one (`--offline`), for projects of 30 concepts and of all. The
first look checks every line and writes down what it saw; it is told apart from those that follow.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from perfusion_registry.registries import Listing, Registry, Release, RequiredConcept
from perfusion_registry.registries.catalogue import CATALOGUE_KEY
from perfusion_registry.registries.index import Publish, index_key
from perfusion_registry.registries.marker import MARKER_KEY, RegistryMarker
from perfusion_registry.registries.offline import OfflineRegistry
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.resolve.candidates import CandidateFinder
from perfusion_registry.resolve.platform import Platform
from perfusion_registry.resolve.requirement import Requirement
from perfusion_registry.resolve.resolution import resolve
from perfusion_registry.resolve.sources import Sources

FAMILY, COVARIANCE = "f" * 64, "c" * 64
PLACE = "registry"


def release(name: str, minor: int, needs: dict[str, str]) -> Release:
    version = f"1.{minor}.0"
    values = {
        "name": name,
        "version": version,
        "sha256": hashlib.sha256(f"{name} {version}".encode()).hexdigest(),
        "size": 1,
    }
    if needs:
        requires = tuple(RequiredConcept(name=need, version=needs[need]) for need in sorted(needs))
        return Release(**values, kind="pack", requires=requires)
    return Release(
        **values,
        family=FAMILY,
        covariance=COVARIANCE,
        supercategory="teddy",
        bias=0.6,
        temperature=0.1,
        key_lock="local",
    )


class AtHand:
    """A registry whose indexes are in memory; only `versions` is ever asked."""

    url = PLACE

    def __init__(self, listed: dict[str, tuple[Listing, ...]]) -> None:
        self.listed = listed

    def versions(self, name: str) -> tuple[Listing, ...]:
        return self.listed.get(name, ())


def world(concepts: int, versions: int, *, packs: bool) -> dict[str, list[Release]]:
    """Concepts by name; where `packs`, every tenth requires the next two, an older pair the older it is."""
    made = {}
    for number in range(concepts):
        pack = packs and number % 10 == 0 and number + 2 < concepts
        needs = [f"concept-{number + step}" for step in (1, 2)] if pack else []
        made[f"concept-{number}"] = [
            release(f"concept-{number}", minor, dict.fromkeys(needs, f"<=1.{minor}.0"))
            for minor in range(versions)
        ]
    return made


def write_registry(root: Path, made: dict[str, list[Release]]) -> None:
    """The folder registry that publishing all this would have made."""
    root.mkdir()
    (root / MARKER_KEY).write_bytes(RegistryMarker(name="bench").model_dump_json().encode())
    (root / CATALOGUE_KEY).write_bytes(b"")
    for name, releases in made.items():
        path = root / index_key(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(index_of(releases))


def index_of(releases: list[Release]) -> bytes:
    """What `Index.appended` would make, line by line, without reading it all again for every line."""
    data, chain = b"", ""
    for one in releases:
        text = Publish(release=one).model_dump_json(exclude_none=True)
        body = text[: text.rindex(',"chain":')] + "}"
        chain = hashlib.sha256((chain + body).encode()).hexdigest()
        data += f'{body[:-1]},"chain":"{chain}"}}\n'.encode()
    return data


def timed(open_place: Callable[[str], Registry], requirements: list[Requirement]) -> tuple[float, float, int]:
    """Wall-clock and processor seconds of one resolution from nothing, and how many versions were chosen."""
    begun, before = time.perf_counter(), time.process_time()
    finder = CandidateFinder(
        Sources({"bench": PLACE}, open_place), {}, Platform("storybook", FAMILY, COVARIANCE)
    )
    chosen = resolve(requirements, finder)
    return time.perf_counter() - begun, time.process_time() - before, len(chosen)


def told(what: str, runs: list[tuple[float, float, int]]) -> None:
    wall, processor = min(run[0] for run in runs), min(run[1] for run in runs)
    print(
        f"{what}: {wall:.3f} s, {processor:.3f} of processor (best of {len(runs)}), {runs[0][2]:,} versions"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", type=int, default=10_000)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for packs in (False, True):
        made = world(options.concepts, options.versions, packs=packs)
        listed = {name: tuple(map(Listing, releases)) for name, releases in made.items()}
        requirements = [Requirement(name, ">=1", PLACE, "bench") for name in made]
        if packs:  # what the newest pack lets in and the project does not: the search steps back
            requirements += [Requirement("concept-1", f"<1.{options.versions // 2}", PLACE, "bench")]
            requirements += [Requirement("concept-10", f"<1.{options.versions // 2}", PLACE, "bench")]
        runs = [timed(lambda _: AtHand(listed), requirements) for _ in range(options.rounds)]  # type: ignore[arg-type, return-value]  # noqa: B023
        what = "with packs and conflicts" if packs else "every concept"
        told(f"{options.concepts:,} concepts of {options.versions} versions, {what}", runs)
    with tempfile.TemporaryDirectory() as folder:
        on_disk(Path(folder), world(options.concepts, options.versions, packs=False), options.rounds)


def on_disk(folder: Path, made: dict[str, list[Release]], rounds: int) -> None:
    """Resolutions that read the index from files."""
    write_registry(folder / PLACE, made)
    time.sleep(2.1)  # a file as young as that is not yet believed unchanged

    def there(place: str) -> Registry:
        return open_registry(place, name="bench", root=folder, cache=folder / "cache")

    def remembered(_: str) -> Registry:  # as of a remote registry; the memory is the same
        return OfflineRegistry(str((folder / PLACE).resolve()), cache=folder / "cache")

    for count in (min(30, len(made)), len(made)):
        requirements = [Requirement(name, ">=1", PLACE, "bench") for name in list(made)[:count]]
        told(f"{count:,} of {len(made):,} from a folder, never seen before", [timed(there, requirements)])
        told(f"{count:,} of {len(made):,} from a folder", [timed(there, requirements) for _ in range(rounds)])
        runs = [timed(remembered, requirements) for _ in range(rounds)]
        told(f"{count:,} of {len(made):,} from what is remembered", runs)


if __name__ == "__main__":
    main()
