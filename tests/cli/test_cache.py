"""`perf cache`: what it counts, verifies and removes, as a person sees it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from perfusion_registry.artifact import Store
from perfusion_registry.artifact.lockfiles import known_lockfiles, note_lockfile
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.quantities import byte_count, seconds
from tests.cli.running import Perf


@pytest.mark.parametrize(("text", "value"), [("30d", 2592000), ("12h", 43200), ("2w", 1209600), (" 5 S ", 5)])
def test_ages(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("2GB", 2e9), ("500 mb", 5e8), ("1GiB", 2**30), ("1.5k", 1500), ("0", 0), ("10B", 10), ("2KiB", 2048)],
)
def test_sizes(text: str, value: float) -> None:
    assert byte_count(text) == value


@pytest.mark.parametrize("text", ["", "30", "-1d", "1y", "1e9d", "1" * 99 + "d", "30d 1h"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(PerfError, match="is no age"):
        seconds(text)


@pytest.mark.parametrize("text", ["", "GB", "-1", "1 XB", "1iB", "1" * 99, "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(PerfError, match="is no size"):
        byte_count(text)


def test_the_whole_of_it(perf: Perf, place: Path) -> None:
    assert perf("cache", "dir").out == f"{place / 'store'}\n"
    assert perf("cache", "prune").out == "Nothing to prune: 0 B in use\n"
    store = Store(place / "store")
    kept, old, damaged = store.put(b"k" * 1500), store.put(b"o" * 2500), store.put(b"d" * 3500)
    then = time.time() - 40 * 86400
    os.utime(store.path(old), (then, then))
    (place / "perfusion.lock").write_text(f'sha256 = "{kept}"\n')
    note_lockfile(store.root, place / "perfusion.lock")

    sizes = perf("cache", "size", "--json").json
    assert sizes["schema"] == "perf.cache-size/1"
    assert {kind["kind"]: kind["files"] for kind in sizes["kinds"]}["artifacts"] == 3
    assert "7.5 KB" in perf("cache", "size").out

    assert perf("cache", "verify").out == "The store is whole: 3 artifacts, all with their own hash\n"
    store.path(damaged).write_bytes(b"x" * 10)
    refused = perf("cache", "verify", "--json")
    assert refused.code == 1
    (row,) = refused.json["damaged"]
    assert row["path"] == str(store.path(damaged))
    assert Path(row["quarantine"]).is_file()
    assert "1 damaged file" in refused.err
    assert perf("cache", "verify").code == 0

    planned = perf("cache", "prune", "--older-than", "30d", "--dry-run")
    assert planned.out.split("\n")[-2].startswith("Would remove 1 file, 2.5 KB; 1 locked artifact stayed")
    assert store.path(old).exists()
    done = perf("cache", "prune", "--older-than", "30d", "--json").json
    assert (done["freed"], done["locked"]) == (2500, 1)
    assert not store.path(old).exists()
    tight = perf("cache", "prune", "--max-size", "1KB")
    assert "what lockfiles name, and what registries said, always stays" in tight.err
    assert store.has(kept)


def test_the_lockfile_of_every_project_command_is_known(perf: Perf, project: Path) -> None:
    assert perf("lock").code == 0
    assert known_lockfiles(project / "store") == [(project / "perfusion.lock").resolve()]
    assert json.loads(perf("cache", "prune", "--json").out)["lockfiles"] == [str(project / "perfusion.lock")]
