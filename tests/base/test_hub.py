"""Hub models come from the local cache, and from the network only when that was allowed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from perfusion_registry.base import describe_base

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = """
import sys
from perfusion_registry.base import describe_base
from perfusion_registry.errors import PerfError
try:
    found = describe_base(sys.argv[1])
    print(found.repo, found.revision, found.digest, "torch" in sys.modules)
    print(*sorted(file.path for file in found.files))
except PerfError as error:
    print("refused:", error)
"""


def describe(reference: str, cache: Path, **environment: str) -> str:
    """What a fresh process says of `reference`; the Hub's client reads its environment only once."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, reference],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(cache), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as its client needs to fetch one public model."""

    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.asked.append(path)
        files = [file for file in sorted(self.folder.rglob("*")) if file.is_file()]
        names = {file.relative_to(self.folder).as_posix(): file for file in files}
        if path == "/api/models/owner/name/revision/main":
            siblings = [{"rfilename": name} for name in names]
            self.answer_json({"id": "owner/name", "sha": COMMIT, "siblings": siblings})
        elif path.startswith("/api/models/owner/name/tree/"):
            self.answer_json(
                [
                    {"type": "file", "path": name, "size": file.stat().st_size, "oid": etag(file)}
                    for name, file in names.items()
                ]
            )
        elif path.startswith(f"/owner/name/resolve/{COMMIT}/"):
            file = names[path.removeprefix(f"/owner/name/resolve/{COMMIT}/")]
            self.answer(file.read_bytes(), {"ETag": f'"{etag(file)}"', "X-Repo-Commit": COMMIT})
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def answer_json(self, what: object) -> None:
        self.answer(json.dumps(what).encode(), {"Content-Type": "application/json"})

    def answer(self, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


@pytest.fixture
def hub(tiny_base_folder: Path, tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a small Hub with one model, and the paths it was asked for."""
    folder = shutil.copytree(tiny_base_folder, tmp_path / "served")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"not needed")
    asked: list[str] = []
    handler = type("OneModel", (Hub,), {"folder": folder, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def test_nothing_is_downloaded_unless_it_is_allowed_and_then_only_once(
    hub: tuple[str, list[str]], tiny_base_folder: Path, tmp_path: Path
) -> None:
    address, asked = hub
    cache = tmp_path / "hub"
    refused = describe("owner/name@main", cache, HF_ENDPOINT=address)
    assert "refused: the model 'owner/name@main' is not on this machine" in refused
    assert "PERF_ALLOW_DOWNLOAD=1" in refused
    assert "hf download owner/name --revision main" in refused
    assert asked == []

    fetched = describe("owner/name@main", cache, HF_ENDPOINT=address, PERF_ALLOW_DOWNLOAD="1")
    expected = describe_base(str(tiny_base_folder))
    assert fetched.splitlines()[0] == f"owner/name {COMMIT} {expected.digest} False"
    assert fetched.splitlines()[1].split() == [file.path for file in expected.files]
    assert not [path for path in asked if path.endswith(".bin") or "fp16" in path]

    asked.clear()
    for name in ("owner/name@main", f"owner/name@{COMMIT}", "owner/name"):
        again = describe(name, cache, HF_ENDPOINT=address, PERF_ALLOW_DOWNLOAD="1")
        assert again == fetched
    assert asked == []


def test_a_name_that_the_hub_does_not_know_is_told(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    said = describe("owner/other", tmp_path / "hub", HF_ENDPOINT=hub[0], PERF_ALLOW_DOWNLOAD="1")
    assert said.startswith("refused: the model 'owner/other'")


def test_a_hub_that_does_not_answer_is_told(tmp_path: Path) -> None:
    said = describe("owner/name", tmp_path / "hub", HF_ENDPOINT="http://127.0.0.1:9", PERF_ALLOW_DOWNLOAD="1")
    assert said.startswith("refused: the model 'owner/name' could not be downloaded")
