"""Verifying: each thing that can be wrong with what is locked, and building again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.errors import CheckFailedError
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.lock import NoLockfileError
from perfusion_registry.operations.rebuild import RebuildOptions, rebuild
from perfusion_registry.operations.verify import verify
from perfusion_registry.operations.workspace import Workspace
from tests.operations.conftest import edit
from tests.operations.stand_in import stand_in


def test_everything_that_is_locked_is_checked(project: Path) -> None:
    with Workspace.open(project) as workspace:
        with pytest.raises(NoLockfileError):
            verify(workspace)
        sha256 = stand_in(project)
        assert verify(workspace).failed == ()
        store, lock = workspace.store, project / "perfusion.lock"
        data, text = store.get(sha256), lock.read_text(encoding="utf-8")

        def wrong() -> list[str]:
            result = verify(workspace)
            assert not result.whole
            return [reason for row in result.failed for reason in row.wrong]

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
        assert any("locked at 1.0.1" in reason for reason in wrong())
        lock.write_text(text.replace(f'sha256 = "{sha256}"\nsize = {len(data)}\n', ""), encoding="utf-8")
        assert wrong() == ["it is not built"]
        lock.write_text(text, encoding="utf-8")
        (project / "C.safetensors").write_bytes((project / "C.safetensors").read_bytes() + b"x")
        assert wrong() == ["C.safetensors is not the locked covariance"]


def test_building_again_gives_the_same_bytes_or_says_how_far_they_are(project: Path) -> None:
    with Workspace.open(project) as workspace:
        with pytest.raises(CheckFailedError, match="`bear` cannot be compared: never built"):
            rebuild(workspace, RebuildOptions())
        (built,) = build(workspace, BuildOptions()).built
        path = project / "perfusion.lock"
        lock = path.read_bytes()
        (row,) = rebuild(workspace, RebuildOptions(names=("bear",))).rebuilt
        assert (row.same_bytes, row.distance, row.wrong) == (True, 0.0, ())
        assert row.processor.startswith("cpu (")
        assert path.read_bytes() == lock

        # As if it had been locked on another kind of processor: nearly the same, then far from it.
        store = workspace.store
        artifact = load_artifact(store.get(built.sha256))
        for scale, within in ((1.01, True), (1.1, False)):  # far above fp16's rounding
            tensors = {key: value * scale for key, value in artifact.tensors.items()}
            other = store.put(save_artifact(Artifact(artifact.card, tensors)))
            path.write_bytes(lock.replace(built.sha256.encode(), other.encode()))
            result = rebuild(workspace, RebuildOptions())
            (row,) = result.rebuilt
            assert (row.same_bytes, row.locked, row.sha256) == (False, other, built.sha256)
            assert row.distance == pytest.approx(1 - 1 / scale, rel=0.05)
            assert (result.failed == ()) is within
            assert row.within(0.2)
        # A card that says something else is another concept, however near its numbers.
        card = artifact.card.model_copy(update={"supercategory": "cat"})
        other = store.put(save_artifact(replace(artifact, card=card)))
        path.write_bytes(lock.replace(built.sha256.encode(), other.encode()))
        (row,) = rebuild(workspace, RebuildOptions()).failed
        assert row.wrong == ("its card's supercategory differs",)
