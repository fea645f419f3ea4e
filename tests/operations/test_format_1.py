"""Format 1 of artifacts beside format 2: what was locked stays what it was, to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.drawing import contribution
from perfusion_registry.methods.perfusion.options import DrawOptions, TrainOptions
from perfusion_registry.methods.perfusion.tensors import offsets, outputs
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.concept_builder import BuildInputs, ConceptBuilder
from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.rebuild import RebuildOptions, rebuild
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.reporter import Silent


def pin(path: Path, sha256: str, size: int) -> bytes:
    """Have a lockfile with one concept pin another artifact of it."""
    text = path.read_text(encoding="utf-8")
    head, block = text.split("[[concept]]")
    block = re.sub(r'^sha256 = ".*"$', f'sha256 = "{sha256}"', block, flags=re.MULTILINE)
    block = re.sub(r"^size = .*$", f"size = {size}", block, flags=re.MULTILINE)
    path.write_text(f"{head}[[concept]]{block}", encoding="utf-8")
    return path.read_bytes()


def test_a_lockfile_that_pins_format_1_gets_format_1_to_the_byte(project: Path, tiny_base: Base) -> None:
    with Workspace.open(project) as workspace:
        (row,) = build(workspace, BuildOptions()).built
        store, lock = workspace.store, project / "perfusion.lock"
        new = load_artifact(store.get(row.sha256))
        assert (new.card.schema_version, new.card.requires_perf) == (2, "0.1.0")
        assert offsets(new.tensors)
        assert not outputs(new.tensors)

        # The same training, written as it was before: the very same numbers, of which one is an offset.
        planned = load_plan(workspace, None, force=True)
        builder = ConceptBuilder(BuildInputs.of(planned), ComputeOptions(), Silent())
        older = builder.build(planned.plan.tasks[0], format_1=True)
        old = load_artifact(store.get(older.sha256))
        assert old.card.schema_version == 1
        assert "schema_version" in (said := save_artifact(old)[:2000].decode("latin-1"))
        assert "requires_perf" not in said
        for key in old.tensors.keys() & new.tensors.keys():
            assert old.tensors[key].equal(new.tensors[key])
        train = TrainOptions.of(new.card.train)
        draw = DrawOptions(bias=0.6, temperature=0.1, key_lock="local")
        parts = [contribution(tiny_base, one.tensors, "bear", "teddy", train, draw) for one in (old, new)]
        assert parts[0].target is not None
        assert parts[1].target is not None
        o, again = parts[0].target.o, parts[1].target.o
        assert float((o - again).abs().max()) <= 2**-10 * float(o.abs().max())  # two roundings of fp16

        # A machine that has only the lockfile of before, and builds.
        pinned = pin(lock, older.sha256, older.size)
        for path in (store.root / "artifacts", store.root / "builds"):
            for file in path.rglob("*"):
                if file.is_file():
                    file.unlink()
        (row,) = build(workspace, BuildOptions(locked=True)).built
        assert (row.trained, row.sha256, row.size) == (True, older.sha256, older.size)
        assert lock.read_bytes() == pinned
        assert read_lockfile(lock).version == 1
        (compared,) = rebuild(workspace, RebuildOptions()).rebuilt
        assert (compared.same_bytes, compared.wrong) == (True, ())
        assert build(workspace, BuildOptions()).built == ()  # what is of format 1 is not built again


def test_an_artifact_of_format_1_from_another_processor_is_compared_as_what_it_is(project: Path) -> None:
    with Workspace.open(project) as workspace:
        build(workspace, BuildOptions())
        planned = load_plan(workspace, None, force=True)
        builder = ConceptBuilder(BuildInputs.of(planned), ComputeOptions(), Silent())
        older = builder.build(planned.plan.tasks[0], format_1=True)
        old = load_artifact(workspace.store.get(older.sha256))
        near = Artifact(old.card, {key: value * 1.01 for key, value in old.tensors.items()})
        data = save_artifact(near)
        pin(project / "perfusion.lock", workspace.store.put(data), len(data))
        (compared,) = rebuild(workspace, RebuildOptions()).rebuilt
        assert (compared.same_bytes, compared.wrong) == (False, ())
        assert compared.distance == pytest.approx(1 - 1 / 1.01, rel=0.05)
        assert compared.sha256 == older.sha256


def test_target_outputs_are_of_one_format(project: Path) -> None:
    with Workspace.open(project) as workspace:
        (row,) = build(workspace, BuildOptions()).built
        artifact = load_artifact(workspace.store.get(row.sha256))
    both = artifact.tensors | {
        key.replace("offset.", "output."): value
        for key, value in artifact.tensors.items()
        if key.startswith("offset.")
    }
    with pytest.raises(PerfError, match="target outputs of both formats"):
        save_artifact(Artifact(artifact.card, both))


def test_training_begins_where_the_offset_is_nothing(tiny_base: Base) -> None:
    """The law of the offset: o*_V of a concept that learned nothing is the supercategory's own `W_V e`."""
    from perfusion_registry.edit import CovarianceMetric
    from perfusion_registry.methods.perfusion.training import PerfusionTrainable

    d = tiny_base.bank.W.shape[1]
    concept = PerfusionTrainable.begin(
        tiny_base, "teddy", CovarianceMetric(torch.eye(d)), TrainOptions(), torch.Generator().manual_seed(0)
    )
    state = {key: value.detach() for key, value in concept.state.items()}
    assert all(not value.any() for value in offsets(concept.tensors(state)).values())
    assert all(value.any() for value in outputs(concept.format_1_tensors(state)).values())
