"""How a client fares with a server that fails in every way there is: 10,000 faults into real HTTP answers.

A folder registry that keeps growing is handed out by a local server that spoils half of its answers:
resets, truncations, wrong bytes, wrong lengths, stale indexes, errors, slowness, nonsense. A client looks
concepts up and downloads them, with a memory that lasts and sometimes with none, and everything that it
believes is held against the truth.

    python -m benchmarks.registry_faults --faults 10000
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median

from perfusion_registry.artifact import Store
from perfusion_registry.registries import Listing, RegistryError, TransferError
from perfusion_registry.registries.download import download
from perfusion_registry.registries.http import HttpBucket
from perfusion_registry.registries.sparse import SparseRegistry
from tests.registries.samples import folder_registry, release
from tests.registries.web import Answer, Request, of, serving

NAMES = ("teddy", "teapot", "cat", "boat")
PATIENCE = 1.5


class Faults:
    """Spoils half of a server's answers, each in a way drawn by chance, and counts them."""

    def __init__(self, rng: Random, old: Callable[[str], bytes | None]) -> None:
        self.rng = rng
        self.old = old
        self.counts: Counter[str] = Counter()
        self.requests = 0
        self.resting = False
        self._kinds: dict[str, Callable[[Request, Answer], Answer | None]] = {
            "reset": lambda _, a: replace(a, cut=rng.randrange(len(a.wire()) + 1)),
            "truncated": lambda _, a: (
                replace(a, body=a.body[: rng.randrange(len(a.body))]) if a.body else None
            ),
            "wrong bytes": lambda _, a: self._flipped(a),
            "too short": lambda _, a: of(200, a.body[: rng.randrange(len(a.body))]) if a.body else None,
            "too long": lambda _, a: (
                of(200, a.body + rng.randbytes(rng.randrange(1, 9999))) if a.body else None
            ),
            "no length": lambda _, a: (
                Answer(200, {}, a.body[: rng.randrange(len(a.body))]) if a.body else None
            ),
            "stale index": self._stale,
            "server error": lambda _, a: of(rng.choice((500, 502, 503, 504, 429))),
            "retry after": lambda _, a: of(503, retry_after=rng.choice(("0", "soon", "-5", "9" * 400))),
            "slow": lambda _, a: replace(a, pause=0.05),
            "nonsense": lambda _, a: Answer(0, raw=rng.randbytes(rng.randrange(1, 400))),
            "redirects in a circle": lambda r, _: of(302, location=r.path),
            "not modified": lambda _, a: Answer(304) if a.status == 200 else None,
            "blob lost": lambda r, _: of(404) if "/blobs/" in r.path else None,
            "wrong blob": lambda r, a: of(200, rng.randbytes(len(a.body))) if "/blobs/" in r.path else None,
            "damaged gzip": lambda _, a: of(200, self._damaged(a.body), content_encoding="gzip"),
            "gzip bomb": lambda _, a: of(200, BOMB, content_encoding="gzip"),
            "endless headers": lambda _, a: Answer(0, raw=b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000),
            "broken chunks": lambda _, a: Answer(
                200, {"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\nzz\r\n" + a.body
            ),
        }

    def __call__(self, request: Request, answer: Answer) -> Answer:
        self.requests += 1
        while not self.resting and self.rng.random() < 0.5:
            # Slow answers cost seconds each; they come rarely.
            kind = self.rng.choice([k for k in self._kinds if k != "slow" or self.rng.random() < 0.3])
            spoilt = self._kinds[kind](request, answer)
            if spoilt is not None:
                self.counts[kind] += 1
                return spoilt
        return answer

    def _flipped(self, answer: Answer) -> Answer | None:
        if not answer.body:
            return None
        body = bytearray(answer.body)
        for _ in range(self.rng.choice((1, 1, 2, 50))):
            body[self.rng.randrange(len(body))] ^= 1 << self.rng.randrange(8)
        return replace(answer, body=bytes(body)) if bytes(body) != answer.body else None

    def _stale(self, request: Request, answer: Answer) -> Answer | None:
        older = self.old(request.path)
        return of(200, older) if older is not None and answer.status == 200 else None

    def _damaged(self, body: bytes) -> bytes:
        packed = bytearray(gzip.compress(body))
        packed[self.rng.randrange(10, len(packed))] ^= 0xFF
        return bytes(packed[: self.rng.randrange(10, len(packed) + 1)])


BOMB = gzip.compress(bytes(100_000_000))


def measure(faults: int, seed: int, folder: Path) -> dict[str, object]:
    """Run until so many faults were injected; what was believed, and how long it took."""
    rng = Random(seed)
    keeper = folder_registry(folder / "registry", cache=folder / "keeper")
    truth: dict[str, list[tuple[str, str]]] = {name: [] for name in NAMES}
    blobs: dict[str, bytes] = {}
    logs: dict[str, list[bytes]] = {name: [] for name in NAMES}

    def grow(name: str) -> None:
        version = f"1.{len(truth[name])}.0"
        blob = rng.randbytes(rng.choice((200, 5_000, 34_000)))
        entry = release(version, blob, name=name)
        keeper.publish(entry, blob)
        truth[name].append((version, entry.sha256))
        blobs[entry.sha256] = blob
        path = folder / "registry" / "index" / name[:2] / f"{name}.jsonl"
        logs[name].append(path.read_bytes())

    for name in NAMES:
        grow(name)
        grow(name)

    def old(path: str) -> bytes | None:
        name = Path(path).stem
        return rng.choice(logs[name][:-1]) if path.endswith(".jsonl") and name in logs else None

    wrong: list[str] = []
    outcomes: Counter[str] = Counter()
    seconds: list[float] = []
    seen: dict[str, int] = {}
    with serving(folder / "registry") as web:
        web.twist = spoil = Faults(rng, old)
        lasting = folder / "lasting"
        while spoil.counts.total() < faults:
            if rng.random() < 0.01:
                grow(rng.choice(NAMES))
            fresh = rng.random() < 0.2
            cache = Path(tempfile.mkdtemp(dir=folder)) if fresh else lasting
            bucket = HttpBucket(web.url, {web.url: None}, patience=PATIENCE, pause=0.002)
            registry = SparseRegistry(bucket, cache=cache)
            store = Store(Path(tempfile.mkdtemp(dir=folder)))
            name = rng.choice(NAMES)
            web.requests.clear()
            begun = time.monotonic()
            try:
                listings = registry.versions(name)
                wrong += judged(name, listings, truth[name], 0 if fresh else seen.get(name, 0))
                if not fresh:
                    seen[name] = max(seen.get(name, 0), len(listings))
                if listings:
                    chosen = rng.choice(listings).release
                    download(registry, chosen, store)
                    if store.path(chosen.sha256).read_bytes() != blobs.get(chosen.sha256):
                        wrong.append(f"bytes of {name}")
                outcomes["succeeded"] += 1
            except TransferError as error:
                outcomes["gave up after bounded tries" if clear(error) else "unclear"] += 1
            except RegistryError as error:
                outcomes["refused" if clear(error) else "unclear"] += 1
            seconds.append(time.monotonic() - begun)
            wrong += [
                f"kept in the store: {path.name}"
                for path in store.root.rglob("*.safetensors")
                if hashlib.sha256(path.read_bytes()).hexdigest() != path.stem
            ]
            outcomes["most requests"] = max(outcomes["most requests"], len(web.requests))
            shutil.rmtree(store.root)
            if fresh:
                shutil.rmtree(cache)
        spoil.resting = True
        registry = SparseRegistry(HttpBucket(web.url, {web.url: None}), cache=lasting)
        healed = all(
            [(one.release.version, one.release.sha256) for one in registry.versions(name)] == truth[name]
            for name in NAMES
        )
    return {
        "faults": spoil.counts.total(),
        "faults_by_kind": dict(spoil.counts.most_common()),
        "requests": spoil.requests,
        "operations": len(seconds),
        "outcomes": {key: outcomes[key] for key in outcomes if key not in ("most requests", "unclear")},
        "unclear_errors": outcomes["unclear"],
        "wrong_accepted": len(wrong),
        "wrong": wrong[:10],
        "most_requests_of_one_operation": outcomes["most requests"],
        "median_seconds": round(median(seconds), 4),
        "slowest_seconds": round(max(seconds), 2),
        "healed_afterwards": healed,
    }


def judged(name: str, listings: tuple[Listing, ...], truth: list[tuple[str, str]], seen: int) -> list[str]:
    """What is wrong with the listings: releases that never were, or fewer than this client saw before."""
    told = [(one.release.version, one.release.sha256) for one in listings]
    wrong = []
    if told != truth[: len(told)] or any(one.release.description != DESCRIPTION for one in listings):
        wrong.append(f"index of {name}: {told}")
    if len(told) < seen:
        wrong.append(f"index of {name} went back from {seen} to {len(told)}")
    return wrong


def clear(error: RegistryError) -> bool:
    """Whether an error says what, where and what next, in a few words of our own."""
    return 10 < len(error.what) < 300 and bool(error.where) and str(error).replace("\n", "").isprintable()


DESCRIPTION = release().description


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(options.faults, options.seed, Path(folder)), indent=2))


if __name__ == "__main__":
    main()
