"""How a client fares with a server that fails in every way there is: 10,000 faults into real HTTP answers.

A registry that keeps growing is read through a relay that spoils half of its answers: resets, truncations,
wrong bytes, wrong lengths, stale indexes, errors, slowness, nonsense. A client looks concepts up, downloads
them, and sometimes publishes, with a memory that lasts and sometimes with none, and everything that it
believes is held against the truth.

    python -m benchmarks.registry_faults --faults 10000
    python -m benchmarks.registry_faults --faults 2000 --backend oci

The backends: a folder that a web server hands out (which cannot be published to), moto for S3,
docker-registry for OCI, and a server that speaks the Hub's API. `--results FILE` keeps the figures there as
they grow.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median

from benchmarks import servers
from perfusion_registry.artifact import Store
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.registries import Listing, Registry, RegistryError, TransferError
from perfusion_registry.registries.backoff import Backoff
from perfusion_registry.registries.download import download
from perfusion_registry.registries.http import HttpBucket
from perfusion_registry.registries.oci.claim import SETTLE
from perfusion_registry.registries.oci.registry import OciRegistry
from perfusion_registry.registries.opening import open_registry
from perfusion_registry.registries.sparse import SparseRegistry
from tests.registries.samples import folder_registry, release
from tests.registries.web import Answer, Request, Web, of, relaying, serving

BACKENDS = ("http", "s3", "oci", "hub")
NAMES = ("teddy", "teapot", "cat", "boat")
PATIENCE = 1.5


class Faults:
    """Spoils half of a server's answers, each in a way drawn by chance, and counts them."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.seen: dict[str, list[bytes]] = {}
        self.counts: Counter[str] = Counter()
        self.requests = 0
        self.resting = False
        self._kinds: dict[str, Callable[[Request, Answer], Answer | None]] = {
            "reset": lambda _, a: replace(a, cut=rng.randrange(len(a.wire()) + 1)),
            "reset before": lambda _, a: replace(a, cut=0),
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
        if answer.status == 200 and "/blobs/" not in request.path and answer.body:
            seen = self.seen.setdefault(request.path, [])
            if answer.body not in seen:
                seen.append(answer.body)
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
        older = [body for body in self.seen.get(request.path, ()) if body != answer.body]
        if answer.status != 200 or not older:
            return None
        body = self.rng.choice(older)
        headers = {name: value for name, value in answer.headers.items() if name.lower() != "etag"}
        return replace(answer, headers=headers | {"Content-Length": str(len(body))}, body=body)

    def _damaged(self, body: bytes) -> bytes:
        packed = bytearray(gzip.compress(body))
        packed[self.rng.randrange(10, len(packed))] ^= 0xFF
        return bytes(packed[: self.rng.randrange(10, len(packed) + 1)])


BOMB = gzip.compress(bytes(100_000_000))


@dataclass(frozen=True)
class Backend:
    """A registry as its keeper reaches it, and a client through the relay; both given a folder for memory.

    chained: whether its indexes tell by themselves that a line is missing; tags of OCI do not.
    """

    keeper: Callable[[Path], Registry]
    client: Callable[[Path], Registry]
    web: Web
    writable: bool = True
    chained: bool = True


@contextmanager
def backend(name: str, folder: Path) -> Iterator[Backend]:
    """The server of a backend, with a relay before it."""
    with ExitStack() as stack:
        if name == "http":
            web: Web = stack.enter_context(serving(folder / "registry"))

            def spoilt(cache: Path) -> Registry:
                bucket = HttpBucket(web.url, {web.url: None}, patience=PATIENCE, backoff=Backoff(0.002))
                return SparseRegistry(bucket, cache=cache)

            yield Backend(
                lambda cache: folder_registry(folder / "registry", cache=cache), spoilt, web, writable=False
            )
            return
        if name == "s3":
            upstream = stack.enter_context(servers.s3())
        elif name == "hub":
            upstream = stack.enter_context(servers.hub())
        else:
            upstream = stack.enter_context(servers.oci(folder / "docker-registry"))
        relay = stack.enter_context(relaying(upstream))

        def opened(address: str, cache: Path) -> Registry:
            if name == "oci":
                url = address.replace("http:", "oci:") + "/studio"
                settle = SETTLE if address == upstream else 1.0
                return OciRegistry(url, credentials=None, cache=cache, settle=settle)
            if name == "s3":
                return open_registry(
                    f"s3://studio/registry?endpoint={address}", name="faults", root=folder, cache=cache
                )
            os.environ["HF_ENDPOINT"] = address  # read when the registry is made
            return open_registry("hf://studio/concepts", name="faults", root=folder, cache=cache)

        yield Backend(
            lambda cache: opened(upstream, cache),
            lambda cache: opened(relay.url, cache),
            relay,
            chained=name != "oci",
        )


def measure(
    faults: int,
    seed: int,
    folder: Path,
    name: str = "http",
    keep: Callable[[dict[str, object]], None] = lambda figures: None,
) -> dict[str, object]:
    """Run until so many faults were injected; what was believed, and how long it took.

    keep: called with the figures so far, now and then.
    """
    with backend(name, folder) as there:
        run = Run(there, Random(seed), folder)
        while run.spoil.counts.total() < faults:
            run.step()
            if len(run.seconds) % 20 == 0:
                keep(run.figures())
        run.spoil.resting = True
        figures = run.figures() | {"healed_afterwards": run.healed()}
        keep(figures)
        return figures


class Run:
    """A client's operations, and what is true."""

    def __init__(self, there: Backend, rng: Random, folder: Path) -> None:
        self.there, self.rng, self.folder = there, rng, folder
        self.keeper = there.keeper(folder / "keeper")
        self.truth: dict[str, list[tuple[str, str]]] = {name: [] for name in NAMES}
        self.blobs: dict[str, bytes] = {}
        self.wrong: list[str] = []
        self.unclear: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.most_requests = 0
        self.seconds: list[float] = []
        self.seen: dict[str, int] = {}
        self.spoil = Faults(rng)
        for name in NAMES:
            self._grow(name)
            self._grow(name)
        there.web.twist = self.spoil

    def step(self) -> None:
        """One operation of the client."""
        name, doing = self.rng.choice(NAMES), self.rng.random()
        if doing < 0.01:
            self._grow(name)
        fresh = self.rng.random() < 0.2
        cache = Path(tempfile.mkdtemp(dir=self.folder)) if fresh else self.folder / "lasting"
        store = Store(Path(tempfile.mkdtemp(dir=self.folder)))
        self.there.web.requests.clear()
        begun = time.monotonic()
        try:
            registry = self.there.client(cache)
            if self.there.writable and 0.01 <= doing < 0.03:
                self._publish(registry, name)
            else:
                self._fetch(registry, name, store, fresh=fresh)
            self.outcomes["succeeded"] += 1
        except TransferError as error:
            self._told("gave up after bounded tries", error)
        except RegistryError as error:
            self._told("refused", error)
        self.seconds.append(time.monotonic() - begun)
        self.wrong += [
            f"kept in the store: {path.name}"
            for path in store.root.rglob("*.safetensors")
            if hashlib.sha256(path.read_bytes()).hexdigest() != path.stem
        ]
        self.most_requests = max(self.most_requests, len(self.there.web.requests))
        shutil.rmtree(store.root)
        if fresh:
            shutil.rmtree(cache)

    def healed(self) -> bool:
        """Whether the client that lasts knows all that is true, now that the server is well again."""
        registry = self.there.client(self.folder / "lasting")
        return all(_told(registry.versions(name)) == self.truth[name] for name in NAMES)

    def figures(self) -> dict[str, object]:
        """What was seen so far."""
        return {
            "faults": self.spoil.counts.total(),
            "faults_by_kind": dict(self.spoil.counts.most_common()),
            "requests": self.spoil.requests,
            "operations": len(self.seconds),
            "outcomes": dict(self.outcomes),
            "unclear_errors": len(self.unclear),
            "unclear": self.unclear[:10],
            "wrong_accepted": len(self.wrong),
            "wrong": self.wrong[:10],
            "most_requests_of_one_operation": self.most_requests,
            "median_seconds": round(median(self.seconds), 4) if self.seconds else 0.0,
            "slowest_seconds": round(max(self.seconds, default=0.0), 2),
        }

    def _fetch(self, registry: Registry, name: str, store: Store, *, fresh: bool) -> None:
        listings = registry.versions(name)
        truth = self.truth[name]
        if self.there.chained or not fresh:
            self.wrong += judged(name, listings, truth, 0 if fresh else self.seen.get(name, 0))
        else:
            told = _told(listings)
            self.wrong += [f"index of {name}: {one}" for one in told if one not in truth]
            self.outcomes["with versions kept from a new client"] += told != truth[: len(told)]
        if not fresh:
            self.seen[name] = max(self.seen.get(name, 0), len(listings))
        if listings:
            chosen = self.rng.choice(listings).release
            download(registry, chosen, store)
            if store.path(chosen.sha256).read_bytes() != self.blobs.get(chosen.sha256):
                self.wrong.append(f"bytes of {name}")

    def _publish(self, registry: Registry, name: str) -> None:
        """Publish through the relay; afterwards the version is there whole, or not there at all."""
        version, blob = self._next(name)
        entry = release(version, blob, name=name)
        published = False
        try:
            published = registry.publish(entry, blob)
            self.outcomes["published"] += 1
        finally:
            self.there.web.twist = lambda request, answer: answer
            listings = self.keeper.versions(name)
            self.there.web.twist = self.spoil
            there = [one for one in listings if one.version == version]
            if there:
                if b"".join(self.keeper.blob(there[0].release)) != blob:
                    self.wrong.append(f"{name} {version} was published with other bytes")
                self.truth[name].append((version, entry.sha256))
                self.blobs[entry.sha256] = blob
            elif published:
                self.wrong.append(f"{name} {version} was not published, and it was said that it was")

    def _grow(self, name: str) -> None:
        version, blob = self._next(name)
        entry = release(version, blob, name=name)
        self.keeper.publish(entry, blob)
        self.truth[name].append((version, entry.sha256))
        self.blobs[entry.sha256] = blob

    def _next(self, name: str) -> tuple[str, bytes]:
        return f"1.{len(self.truth[name])}.0", self.rng.randbytes(self.rng.choice((200, 5_000, 34_000)))

    def _told(self, outcome: str, error: RegistryError) -> None:
        self.outcomes[outcome] += 1
        if not clear(error):
            self.unclear.append(str(error)[:600])


def _told(listings: Sequence[Listing]) -> list[tuple[str, str]]:
    return [(one.version, one.release.sha256) for one in listings]


def judged(name: str, listings: Sequence[Listing], truth: list[tuple[str, str]], seen: int) -> list[str]:
    """What is wrong with the listings: releases that never were, or fewer than this client saw before."""
    told = _told(listings)
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
    parser.add_argument("--faults", type=int, default=10_000, help="of each backend")
    parser.add_argument("--backend", action="append", choices=BACKENDS, help="repeatable; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="a JSON file for the figures as they grow")
    options = parser.parse_args()
    kept: dict[str, object] = {}
    for name in options.backend or BACKENDS:

        def keep(figures: dict[str, object], name: str = name) -> None:
            kept[name] = figures
            if options.results is not None:
                replace_text(options.results, json.dumps(kept, indent=2) + "\n")

        with tempfile.TemporaryDirectory() as folder:
            found = measure(options.faults, options.seed, Path(folder), name, keep)
            print(name, json.dumps(found, indent=2), flush=True)


if __name__ == "__main__":
    main()
