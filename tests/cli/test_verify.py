"""`perf verify`: each thing that can be wrong, and building again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perfusion_registry.artifact import Artifact, Store, load_artifact, save_artifact
from perfusion_registry.trust import SIGNING_KEY_VARIABLE
from tests.cli.running import Perf, edit
from tests.cli.stand_in import release, stand_in


def test_everything_that_is_locked_is_checked(perf: Perf, project: Path) -> None:
    assert perf("verify").code == 1  # there is no lockfile
    sha256 = stand_in(project)
    said = perf("verify")
    assert (said.code, said.out) == (0, "All is as locked: 1 concept\n"), said.err
    store, lock = Store(project / "store"), project / "perfusion.lock"
    data, text = store.get(sha256), lock.read_text(encoding="utf-8")

    def wrong() -> list[str]:
        refused = perf("verify", "--json")
        assert refused.code == 1, refused.out
        assert refused.json["whole"] is False
        return [text for row in refused.json["checked"] for text in row["wrong"]]

    store.path(sha256).write_bytes(data[:-1] + b"x")
    assert "damaged" in wrong()[0]
    store.path(sha256).unlink()
    assert "the store has no artifact" in wrong()[0]
    store.put(data)
    edit(lock, f"size = {len(data)}", "size = 1")
    assert wrong() == [f"it has {len(data)} bytes; 1 are locked"]
    lock.write_text(text.replace("bias = 0.65", "bias = 0.7"), encoding="utf-8")
    assert wrong() == ["its card's bias is 0.65; 0.7 is locked"]
    lock.write_text(text.replace('version = "1.0.0"', 'version = "1.0.1"'), encoding="utf-8")
    assert any("locked at 1.0.1" in told for told in wrong())
    lock.write_text(text.replace(f'sha256 = "{sha256}"\nsize = {len(data)}\n', ""), encoding="utf-8")
    assert wrong() == ["it is not built"]
    lock.write_text(text, encoding="utf-8")
    (project / "C.safetensors").write_bytes((project / "C.safetensors").read_bytes() + b"x")
    table = perf("verify")
    assert table.code == 1
    assert "C.safetensors is not the locked covariance" in " ".join(table.out.split())
    assert "1 thing of 2 failed" in table.err


def test_signatures_are_checked_for_what_is_in_the_store_already(
    perf: Perf, team: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIGNING_KEY_VARIABLE, "01" * 32)
    release(perf, project, "1.0.0", "--sign")
    assert perf("lock", "--project", "team").code == 0
    assert perf("sync", "--project", "team", "--require-signed").code == 0
    said = perf("verify", "--project", "team")
    assert said.code == 0, said.out
    assert "signed by SHA256:" in said.out
    other = "ab" * 32
    assert perf("key", "trust", "bear", other, "--registry", str(project / "shelf")).code == 0
    refused = perf("verify", "--project", "team", "--offline")
    assert refused.code == 1
    assert "signed with another key than before" in " ".join(refused.out.split())
    perf("key", "forget", "bear", "--registry", str(project / "shelf"))
    assert perf("verify", "--project", "team").code == 0


def test_building_again_gives_the_same_bytes_or_says_how_far_they_are(perf: Perf, project: Path) -> None:
    unbuilt = perf("verify", "--rebuild")
    assert unbuilt.code == 1
    assert "`bear` cannot be compared: never built" in unbuilt.err
    (row,) = perf("build", "--json").json["built"]
    lock = (project / "perfusion.lock").read_bytes()
    said = perf("verify", "--rebuild", "bear")
    assert said.code == 0, said.err
    assert said.out.startswith("bear 1.0.0: the same bytes\nBuilt on cpu (")
    assert (project / "perfusion.lock").read_bytes() == lock

    # As if it had been locked on another kind of processor: nearly the same, then far from it.
    store = Store(project / "store")
    built = load_artifact(store.get(row["sha256"]))
    for scale, code, told in (
        (1.001, 0, "other bytes, tensors within 0.001"),
        (1.1, 1, "tensors up to 0.09"),
    ):
        tensors = {key: value * scale for key, value in built.tensors.items()}
        other = store.put(save_artifact(Artifact(built.card, tensors)))
        (project / "perfusion.lock").write_bytes(lock.replace(row["sha256"].encode(), other.encode()))
        said = perf("verify", "--rebuild")
        assert said.code == code, said.err
        assert told in said.out
    assert "did not come out as locked" in said.err
    assert (
        perf("verify", "--rebuild", "--tolerance", "0.2", "--json").json["rebuilt"][0]["same_bytes"] is False
    )
    # A card that says something else is another concept, however near its numbers.
    card = built.card.model_copy(update={"supercategory": "cat"})
    other = store.put(save_artifact(replace(built, card=card)))
    (project / "perfusion.lock").write_bytes(lock.replace(row["sha256"].encode(), other.encode()))
    said = perf("verify", "--rebuild")
    assert said.code == 1
    assert "its card's supercategory differs" in said.out


def test_options_that_do_not_go_together(perf: Perf, project: Path) -> None:
    assert "go with --rebuild" in perf("verify", "bear").err
