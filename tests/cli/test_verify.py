"""`perf verify`: each thing that can be wrong, and building again."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.artifact import Artifact, Store, load_artifact, save_artifact
from perfusion_registry.trust import SIGNING_KEY_VARIABLE
from tests.cli.running import Perf, release
from tests.operations.stand_in import stand_in


def test_what_is_wrong_is_shown_and_is_the_exit_code(perf: Perf, project: Path) -> None:
    assert perf("verify").code == 1  # there is no lockfile
    stand_in(project)
    said = perf("verify")
    assert (said.code, said.out) == (0, "All is as locked: 1 concept\n"), said.err
    (project / "C.safetensors").write_bytes((project / "C.safetensors").read_bytes() + b"x")
    table = perf("verify")
    assert table.code == 1
    assert "C.safetensors is not the locked covariance" in " ".join(table.out.split())
    assert "check failed for perfusion.lock" in table.err
    assert "have the locked covariance here, or `perf lock` locks what changed" in " ".join(table.err.split())
    assert "perf sync" not in table.err
    refused = perf("verify", "--json")
    assert (refused.code, refused.json["whole"]) == (1, False)


def test_signatures_are_checked_for_what_is_in_the_store_already(
    perf: Perf, team: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIGNING_KEY_VARIABLE, "01" * 32)
    release(perf, project, "1.0.0", "--sign")
    assert perf("lock", "--project", "team").code == 0
    assert perf("sync", "--project", "team", "--require-signed").code == 0
    said = perf("verify", "--project", "team")
    assert said.code == 0, said.out
    assert "Signed by SHA256:" in said.out
    other = "ab" * 32
    assert perf("key", "trust", "bear", other, "--registry", str(project / "gallery")).code == 0
    refused = perf("verify", "--project", "team", "--offline")
    assert refused.code == 1
    assert "signed with another key than before" in " ".join(refused.out.split())
    perf("key", "forget", "bear", "--registry", str(project / "gallery"))
    # A key that this check is the first to meet is known from then on, and shown.
    (known,) = {row["key"] for row in perf("verify", "--project", "team", "--json").json["checked"]} - {None}
    (pin,) = perf("key", "list", "--json").json["keys"]
    assert (pin["name"], pin["key"], pin["since"]) == ("bear", known, "1.0.0")


def test_of_an_edited_index_only_its_keeper_knows_more(perf: Perf, team: Path, project: Path) -> None:
    release(perf, project, "1.0.0")
    assert perf("lock", "--project", "team").code == 0
    assert perf("sync", "--project", "team").code == 0
    (index,) = (project / "gallery" / "index").rglob("*.jsonl")
    index.write_text(index.read_text(encoding="utf-8").replace('"size":', '"size": '), encoding="utf-8")
    said = perf("verify", "--project", "team")
    assert said.code == 1
    assert "its chain is broken" in " ".join(said.out.split())
    assert "tell the registry's keeper" in said.err
    assert not any(command in said.err for command in ("perf sync", "perf build", "perf lock"))


def test_building_again_is_told(perf: Perf, project: Path) -> None:
    (row,) = perf("build", "--json").json["built"]
    lock = (project / "perfusion.lock").read_bytes()
    said = perf("verify", "--rebuild", "bear")
    assert said.code == 0, said.err
    assert said.out.startswith("bear 1.0.0: the same bytes\nBuilt on cpu (")
    store = Store(project / "store")
    built = load_artifact(store.get(row["sha256"]))
    tensors = {key: value * 1.1 for key, value in built.tensors.items()}
    other = store.put(save_artifact(Artifact(built.card, tensors)))
    (project / "perfusion.lock").write_bytes(lock.replace(row["sha256"].encode(), other.encode()))
    said = perf("verify", "--rebuild")
    assert said.code == 1
    assert "tensors up to 0.09" in said.out
    assert "did not come out as locked" in said.err
    told = perf("verify", "--rebuild", "--tolerance", "0.2", "--json")
    assert (told.code, told.json["rebuilt"][0]["same_bytes"]) == (0, False)


def test_options_that_do_not_go_together(perf: Perf, project: Path) -> None:
    assert "go with --rebuild" in perf("verify", "bear").err
