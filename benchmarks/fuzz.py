"""Mutated files and prompts into every reader: only a PerfError may come out, soon and in little memory.

Artifacts, indexes and catalogues of registries, lockfiles, manifests, recipes, packs, compositions and
prompts are mutated: bits flipped, parts cut, doubled, swapped and filled with what parsers dislike. Then
every byte of an artifact is changed in turn, and the store must notice each.

    python -m benchmarks.fuzz --cases 100000
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from perfusion_registry.artifact import Store, load_artifact, save_artifact
from perfusion_registry.compose import parse_composition
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import parse_manifest, parse_pack
from perfusion_registry.methods.perfusion.options import PerfusionRecipe
from perfusion_registry.recipe.document import parse_toml, validate
from perfusion_registry.recipe.lockfile_text import dump_lockfile, parse_lockfile
from perfusion_registry.registries.catalogue import read_catalogue, renewed
from perfusion_registry.registries.index import Index, Publish, Yank, read_index
from tests.artifact.samples import artifact
from tests.operations.test_schemas import MANIFEST, RECIPE
from tests.recipe.test_lockfile import lock
from tests.registries.samples import release

PATIENCE = 5  # seconds of the processor for one case
NASTY = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    "\u202e\u200b\U000e0041".encode(),
    b"[" * 3000,
    b"{" * 3000,
    b'{"a":' * 2000,
    b"a." * 2000,
    b"9" * 5000,
    b"1e999",
    b"-1",
    b"nan",
    b"null",
    b"true",
    b"1979-05-27T07:32:00Z",
    b'"""',
    b"'''",
    b"\\u0000",
    b"\\ud800",
    b"\r",
    b"\n",
    b"<<<<<<< x\n",
    b"=======\n",
    b">>>>>>> x\n",
    b"*{bias=.5,temperature=",
    b"\\*",
    b"}*{",
    b"../../../",
    b"registry+",
    b"==",
    b">=1,<2",
    b"A" * 10_000,
)

Reader = Callable[[bytes], object]


@dataclass
class Outcome:
    """What the cases of one reader came to."""

    cases: int = 0
    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    escaped: Counter[str] = field(default_factory=Counter)


class HangError(BaseException):
    """A case took longer than it may; not an Exception, so that nobody swallows it."""


def readers() -> dict[str, tuple[Reader, list[bytes]]]:
    """Every reader with whole files to begin from."""
    whole = Index("teddy")
    for version in ("1.0.0", "1.1.0", "2.0rc1"):
        whole = whole.appended(Publish(release=release(version)))
    whole = whole.appended(Yank(name="teddy", version="1.0.0", reason="an ear"))
    pack = b'[pack]\nname = "party"\nversion = "1.0"\nrequires = { teddy = ">=1" }\n'
    pack += b'[scenes.snow]\nprompt = "a teddy* in the snow"\n'
    concept = {"name": "teddy", "version": "1.0.0", "sha256": "a" * 64, "recipe_digest": "b" * 64}
    concept |= {"supercategory": "teddy", "positions": [2], "bias": 0.6, "temperature": 0.15}
    composition = {
        "prompt": "a teddy* in the snow",
        "base": {"repo": "storybook", "digest": "d" * 64, "family": "f" * 64},
        "covariance": "c" * 64,
        "concepts": [{**concept, "key_lock": "local"}],
    }
    return {
        "artifact": (load_artifact, [save_artifact(artifact()), save_artifact(artifact(d=3, name="cat"))]),
        "index": (lambda data: read_index(data, "teddy", "fuzz"), [whole.data]),
        "catalogue": (lambda data: read_catalogue(data, "fuzz"), [renewed(b"", whole)]),
        "lockfile": (
            lambda data: parse_lockfile(data.decode(errors="surrogateescape"), "fuzz"),
            [dump_lockfile(lock("bear", "cat")).encode()],
        ),
        "manifest": (
            lambda data: parse_manifest(data.decode(errors="replace"), where="fuzz"),
            [MANIFEST.encode()],
        ),
        "recipe": (lambda data: _toml(data, PerfusionRecipe), [RECIPE.encode()]),
        "pack": (lambda data: parse_pack(data, "fuzz"), [pack]),
        "composition": (
            lambda data: parse_composition(data.decode(errors="replace"), where="fuzz"),
            [json.dumps(composition).encode()],
        ),
        "prompt": (
            lambda data: parse_prompt(data.decode(errors="surrogateescape")),
            [
                b"A teddy* sailing in a blue-teapot*{bias=.55,temperature=.15,lock=global} \\* and (a cat*)",
                b"teddy*",
                b"\\\\ a* b*{ bias = 1 } c",
            ],
        ),
    }


def _toml(data: bytes, model: type[PerfusionRecipe]) -> object:
    text = data.decode(errors="replace")
    return validate(parse_toml(text, "fuzz", "file"), model, text=text, where="fuzz", kind="file")


def mutated(data: bytes, chance: Random) -> bytes:
    """`data` with one to four changes."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        begin = chance.randrange(len(data) + 1)
        end = min(len(data), begin + chance.choice((0, 1, 1, 2, 4, 8, 16, 64, 256)))
        match chance.randrange(8):
            case 0 if begin < len(data):
                data = data[:begin] + bytes([data[begin] ^ 1 << chance.randrange(8)]) + data[begin + 1 :]
            case 1:
                data = data[:begin] + data[end:]
            case 2:
                data = data[:end] + data[begin:end] * chance.choice((1, 2, 50)) + data[end:]
            case 3:
                data = data[:begin] + chance.randbytes(end - begin) + data[end:]
            case 4:
                data = data[:begin]
            case 5 if data:
                lines = data.split(b"\n")
                one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
                lines[one], lines[two] = lines[two], lines[one]
                data = b"\n".join(lines)
            case 6:
                at = data.find(chance.choice((b'"', b"=", b":", b",", b"}")), begin)
                data = data[: at + 1] + chance.choice(NASTY) + data[at + 1 :] if at >= 0 else data
            case _:
                data = data[:begin] + chance.choice(NASTY) + data[end:]
    return data[: 256 * 1024]


@contextlib.contextmanager
def limit() -> Iterator[None]:
    """Within it, a case that takes too long raises."""

    def late(number: int, frame: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fuzz(reader: Reader, seeds: list[bytes], cases: int, chance: Random, kept: Path | None = None) -> Outcome:
    """Give `cases` mutated files to one reader. kept: a folder for those that did what they must not."""
    outcome = Outcome()
    for seed in seeds:
        reader(seed)  # what is whole must be read
    for _ in range(cases):
        data = mutated(chance.choice(seeds), chance)
        outcome.cases += 1
        begun = time.process_time()
        try:
            with limit():
                reader(data)
            outcome.accepted += 1
        except PerfError as error:
            str(error)
            outcome.refused += 1
        except (Exception, HangError) as error:  # noqa: BLE001 (finding these is what it is for)
            place = traceback.extract_tb(error.__traceback__)[-1]
            outcome.escaped[f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}"] += 1
            if kept is not None:
                kept.mkdir(parents=True, exist_ok=True)
                (kept / f"{sum(outcome.escaped.values())}").write_bytes(data)
        outcome.slowest = max(outcome.slowest, time.process_time() - begun)
    return outcome


def flips(data: bytes, store: Store) -> tuple[int, int, int]:
    """Change every byte in turn: how many changes, how many the store missed, how many broke the reader."""
    sha256 = store.put(data)
    path = store.path(sha256)
    missed = broke = 0
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        path.write_bytes(changed)
        missed += store.has(sha256)
        try:
            load_artifact(changed)
        except PerfError:
            pass
        except Exception:  # noqa: BLE001 (finding these is what it is for)
            broke += 1
    return len(data), missed, broke


def peak() -> float:
    """The most memory that this process had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=100_000, help="over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append")
    parser.add_argument("--keep", type=Path, help="a folder for the cases that went wrong")
    options = parser.parse_args()
    right = True
    chosen = {name: how for name, how in readers().items() if not options.only or name in options.only}
    for name, (reader, seeds) in chosen.items():
        before = peak()
        kept = options.keep / name if options.keep else None
        outcome = fuzz(reader, seeds, options.cases // len(chosen), Random(options.seed), kept)
        grown = peak() - before
        right &= not outcome.escaped and grown < 300
        print(name, json.dumps({**outcome.__dict__, "grown_mb": round(grown, 1)}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        changes, missed, broke = flips(save_artifact(artifact()), Store(Path(folder)))
    right &= not missed and not broke
    print("flips", json.dumps({"changes": changes, "missed": missed, "broke": broke}))
    print(json.dumps({"right": right, "peak_mb": round(peak())}))
    sys.exit(not right)


if __name__ == "__main__":
    main()
