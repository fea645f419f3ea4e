"""Releases for the tests of the OCI and Hub adapters, and a real docker-registry where there is one."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perfusion_registry.registries.release import Release

DOCKER_REGISTRY = shutil.which("docker-registry") or shutil.which("/usr/bin/docker-registry")

needs_docker_registry = pytest.mark.skipif(
    DOCKER_REGISTRY is None,
    reason="docker-registry is not installed: no real OCI registry to test against "
    "(`apt-get install docker-registry`; `.ci/run` does it where it may)",
)


def sample(version: str = "1.0.0", blob: bytes | None = None, **changes: Any) -> tuple[Release, bytes]:
    """A release and its blob; the same arguments give the same."""
    name = changes.get("name", "teddy")
    blob = f"{name} {version}".encode() * 40 if blob is None else blob
    values: dict[str, Any] = {
        "name": name,
        "version": version,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "size": len(blob),
        "family": "f" * 64,
        "covariance": "c" * 64,
        "base": "storybook",
        "supercategory": "teddy",
        "bias": 0.65,
        "temperature": 0.15,
        "key_lock": "local",
        "licence": "CC-BY-4.0",
        "description": "A bear with «one» ear",
    }
    return Release(**{**values, **changes}), blob


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """A docker-registry that keeps its files in `folder`: its `host:port`."""
    assert DOCKER_REGISTRY is not None
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    configuration = folder / "config.yml"
    configuration.write_text(
        "version: 0.1\n"
        "log: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: '{address}', secret: tests}}\n"
    )
    with (folder / "log").open("wb") as log:
        # Where the tests are killed, the server goes with them.
        ending = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
        process = subprocess.Popen(
            [*ending, DOCKER_REGISTRY, "serve", str(configuration)], stdout=log, stderr=log
        )
        try:
            _await(f"http://{address}/v2/", process, folder / "log")
            yield address
        finally:
            process.terminate()
            process.wait(10)


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"docker-registry does not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.05)
