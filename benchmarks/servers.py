"""The registries that measurements run against: each a server of its own, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.registries.oci.samples import DOCKER_REGISTRY, docker_registry
from tests.registries.samples import ROOT

S3 = """
import sys, threading, time
import boto3, logging
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

# moto looks at the condition of a put and then writes, with nothing to keep two threads from doing both at
# once, which S3 does: a lock around its put makes it the store that it stands for.
logging.getLogger("werkzeug").disabled = True
one_at_a_time, put = threading.Lock(), S3Response.put_object

def put_alone(self):
    with one_at_a_time:
        return put(self)

S3Response.put_object = put_alone
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
address = "http://127.0.0.1:" + sys.argv[1]
key = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
boto3.client("s3", region_name="us-east-1", endpoint_url=address, **key).create_bucket(Bucket="studio")
print("ready", flush=True)
sys.stdin.read()
"""

HUB = """
import sys
from tests.registries.hub.server import serve

with serve() as hub:
    for number in range(200):
        hub.add(f"branch-{number}", {}, "make a branch")
    print(hub.port, flush=True)
    sys.stdin.read()
"""


@contextmanager
def s3() -> Iterator[str]:
    """The address of an S3 server with an empty bucket `studio`; the environment has the keys to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with _program(S3, str(port)):
        os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
        os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        yield os.environ["AWS_ENDPOINT_URL"]


@contextmanager
def hub() -> Iterator[str]:
    """The address of a server that speaks the Hub's API; the environment leads to it.

    Its repository `studio/concepts` has branches from `branch-0` to `branch-199`, all empty.
    """
    from tests.registries.hub.server import TOKEN

    with _program(HUB) as said:
        os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{said}", "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        yield os.environ["HF_ENDPOINT"]


@contextmanager
def oci(folder: Path) -> Iterator[str]:
    """The address of a docker-registry that keeps its files in `folder`."""
    if DOCKER_REGISTRY is None:
        raise SystemExit("docker-registry is not installed (`apt-get install docker-registry`)")
    with docker_registry(folder) as address:
        yield f"http://{address}"


@contextmanager
def _program(text: str, *arguments: str) -> Iterator[str]:
    """A Python program, once it has said a line; it ends when its input does."""
    running = subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    assert running.stdin is not None
    assert running.stdout is not None
    begun = time.monotonic()
    try:
        said = running.stdout.readline().strip()
        if not said:
            raise SystemExit(f"the server does not start ({time.monotonic() - begun:.0f} s)")
        yield said
    finally:
        running.stdin.close()
        running.kill()
        running.wait()
