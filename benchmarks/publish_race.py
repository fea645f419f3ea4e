"""32 processes publish one version to one registry at the same moment: how many win, on each backend.

Each process has bytes of its own. Exactly one must be told that it published; every other one must get an
error that names both digests, and the registry must hold the winner's bytes. A second race is between the
very same bytes, a third between 32 versions of one concept, which must all get in.

    python -m benchmarks.publish_race --publishers 32 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from perfusion_registry.registries import Registry
from perfusion_registry.registries.opening import open_registry
from tests.registries.oci.samples import DOCKER_REGISTRY, docker_registry
from tests.registries.samples import ROOT, program, release

PUBLISH = """
import os, time
from perfusion_registry.registries.opening import open_registry
url, cache, version, text, start = sys.argv[1:]
blob = text.encode() * 1000
registry = open_registry(url, name="race", root=Path("/"), cache=Path(cache))
time.sleep(max(0, float(start) - time.time()))
try:
    print("won" if registry.publish(release(version, blob), blob) else "there already")
except AlreadyPublishedError as error:
    there = registry.versions("teddy")[0].release.sha256
    told = there in error.what and release(version, blob).sha256 in error.what
    print("told" if told else f"told wrongly: {error}")
except RegistryError as error:
    print(f"failed: {error}".replace(chr(10), " "))
"""


def race(
    url: str, folder: Path, entries: list[tuple[str, str]], *, warm_up: float
) -> tuple[Counter[str], float]:
    """Publish every (version, text) at once; what each process said, and the seconds until the last one."""
    start = time.time() + warm_up
    runs = [
        subprocess.Popen(
            program(PUBLISH, url, str(folder / f"cache-{number}"), version, text, str(start)),
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number, (version, text) in enumerate(entries)
    ]
    said = Counter(run.communicate()[0].strip() or f"exit {run.returncode}" for run in runs)
    return said, time.time() - start


def measure(url: str, folder: Path, publishers: int, *, warm_up: float = 1.0) -> dict[str, object]:
    """The three races in one new registry; `right` is whether everything came out as it must."""
    registry = open_registry(url, name="race", root=Path("/"), cache=folder / "judge")
    different, slowest = race(url, folder, [("1.0.0", f"{n}") for n in range(publishers)], warm_up=warm_up)
    listings = registry.versions("teddy")
    possible = {release("1.0.0", f"{n}".encode() * 1000).sha256 for n in range(publishers)}
    right = different == {"won": 1, "told": publishers - 1} and len(listings) == 1
    right &= {one.release.sha256 for one in listings} <= possible and whole(registry)
    same, _ = race(url, folder, [("2.0.0", "same")] * publishers, warm_up=warm_up)
    right &= same == {"won": 1, "there already": publishers - 1}
    many, _ = race(url, folder, [(f"3.{n}.0", f"{n}") for n in range(publishers)], warm_up=warm_up)
    right &= many == {"won": publishers} and len(registry.versions("teddy")) == publishers + 2
    right &= whole(registry)
    return {
        "right": right,
        "one_version": dict(different),
        "same_bytes": dict(same),
        "many_versions": dict(many),
        "seconds_of_the_first_race": round(slowest, 2),
    }


def whole(registry: Registry) -> bool:
    """Whether every release that is listed has its bytes."""
    import hashlib

    return all(
        hashlib.sha256(b"".join(registry.blob(one.release))).hexdigest() == one.release.sha256
        for one in registry.versions("teddy")
    )


@contextmanager
def s3() -> Iterator[str]:
    """An S3 server on this machine with an empty bucket; the environment leads to it.

    moto looks at the condition of a put and then writes, with nothing to keep two threads from doing both at
    once, which S3 does: a lock around its put makes it the store that it stands for.
    """
    import logging
    import threading

    import boto3
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").disabled = True
    one_at_a_time, put = threading.Lock(), S3Response.put_object

    def put_alone(self: S3Response) -> object:
        with one_at_a_time:
            return put(self)

    S3Response.put_object = put_alone
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="studio")
    try:
        yield "s3://studio"
    finally:
        server.stop()
        S3Response.put_object = put
        os.environ.clear()
        os.environ |= before


@contextmanager
def hub() -> Iterator[str]:
    """A server that speaks the Hub's API, with a branch for every round; the environment leads to it."""
    from tests.registries.hub.server import TOKEN, serve

    before = dict(os.environ)
    with serve() as server:
        for number in range(100):
            server.add(f"round-{number}", {}, "make a branch")
        os.environ |= {"HF_ENDPOINT": server.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        try:
            yield "hf://studio/concepts@round-{}"
        finally:
            os.environ.clear()
            os.environ |= before


def main() -> None:
    """Run and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--publishers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=float, default=30.0, help="seconds for all processes to start")
    parser.add_argument(
        "--url", action="append", default=[], help="a further backend, by an address to extend"
    )
    options = parser.parse_args()
    results: dict[str, list[dict[str, object]]] = {}
    with tempfile.TemporaryDirectory() as temporary, s3() as bucket, hub() as branch, ExitStack() as stack:
        below = {"folder": f"{temporary}/registry", "s3": bucket, **{url: url for url in options.url}}
        if DOCKER_REGISTRY:
            address = stack.enter_context(docker_registry(Path(temporary) / "docker-registry"))
            below["oci"] = f"oci://{address}/studio"
        places = {backend: f"{place}/round-{{}}" for backend, place in below.items()} | {"hub": branch}
        for backend, place in places.items():
            results[backend] = []
            for number in range(options.rounds):
                folder = Path(temporary) / f"{backend.partition(':')[0]}-{number}"
                results[backend].append(
                    measure(place.format(number), folder, options.publishers, warm_up=options.warm_up)
                )
                print(backend, json.dumps(results[backend][-1]), flush=True)
    print(json.dumps({backend: all(one["right"] for one in rounds) for backend, rounds in results.items()}))


if __name__ == "__main__":
    main()
