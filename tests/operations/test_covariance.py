"""A covariance belongs to the text encoder that it was estimated with, in whatever files that is."""

from __future__ import annotations

import json
import shutil
from inspect import signature
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from perfusion_registry.cli.covariance import _tell
from perfusion_registry.cluster.address import ClusterAddress
from perfusion_registry.errors import PerfError
from perfusion_registry.library.covariance import count_covariance_shard, estimate_covariance
from perfusion_registry.operations.covariance import (
    CovarianceOptions,
    MergeOptions,
    by_parts,
    estimate,
    merge,
)
from perfusion_registry.operations.doctor import doctor
from perfusion_registry.operations.evaluate import EvaluateOptions, plan_evaluation
from perfusion_registry.operations.lock import LockOptions, lock
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.safetensors_header import read_header
from tests.operations.suites import words_alone
from tests.tiny import save_tiny_base

MANIFEST = '[project]\nname = "p"\nbase = "./{base}"\ncovariance = "C.safetensors"\n'


@pytest.fixture
def project(tmp_path: Path, tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the covariance of the base `own`, the same in fp16, and another of the same width."""
    shutil.copytree(tiny_base_folder, tmp_path / "own")
    save_tiny_base(tmp_path / "other", seed=1)
    weights = shutil.copytree(tiny_base_folder, tmp_path / "half") / "text_encoder" / "model.safetensors"
    save_file({name: tensor.to(torch.float16) for name, tensor in load_file(weights).items()}, weights)
    monkeypatch.chdir(tmp_path)
    captions = tmp_path / "captions.txt"
    words = [(word, number) for word in ("cat", "dog") for number in range(600)]
    captions.write_text("".join(f"a photo of a {word} {number}\n" for word, number in words))
    estimate(CovarianceOptions(captions=(str(captions),), out=tmp_path / "C.safetensors", base="./own"))
    return tmp_path


def test_a_covariance_of_another_text_encoder_is_refused_though_its_width_fits(project: Path) -> None:
    for base in ("own", "half"):
        (project / "perfusion.toml").write_text(MANIFEST.format(base=base))
        with Workspace.open(project) as workspace:
            lock(workspace, LockOptions())
    (project / "perfusion.toml").write_text(MANIFEST.format(base="other"))
    with Workspace.open(project) as workspace:
        with pytest.raises(PerfError, match="is of another text encoder") as caught:
            lock(workspace, LockOptions())
        (found,) = [one for one in doctor(workspace).findings if one.what == "covariance"]
    assert caught.value.where == str(project / "C.safetensors")
    assert (found.state, "another text encoder" in found.told) == ("broken", True)


def test_of_a_card_without_the_numbers_only_the_files_are_told(project: Path) -> None:
    file = project / "C.safetensors"
    card = json.loads(read_header(file).metadata["covariance"])
    del card["text_weights"]
    save_file(load_file(file), file, {"covariance": json.dumps(card)})
    (project / "perfusion.toml").write_text(MANIFEST.format(base="own"))
    with Workspace.open(project) as workspace:
        lock(workspace, LockOptions())
    (project / "perfusion.toml").write_text(MANIFEST.format(base="half"))
    other = pytest.raises(PerfError, match="was estimated with other files of a text encoder")
    with Workspace.open(project) as workspace, other:
        lock(workspace, LockOptions())


BASE = 'base = "./{}"\ncovariance = "C.safetensors"'


def test_a_suite_refuses_it_too(project: Path) -> None:
    recipe = '[concept]\nname = "bear"\nversion = "1.0.0"\nsupercategory = "teddy"\nimages = ["*.png"]\n'
    (project / "bear.toml").write_text(recipe)
    Image.new("RGB", (64, 64)).save(project / "a.png")
    suite = project / "suite.toml"
    with Workspace.open(project, optional=True) as workspace:
        suite.write_text(words_alone(BASE.format("half")))
        assert plan_evaluation(workspace, EvaluateOptions(suite=str(suite))).pictures.needed
        suite.write_text(words_alone(BASE.format("other")))
        with pytest.raises(PerfError, match="is of another text encoder"):
            plan_evaluation(workspace, EvaluateOptions(suite=str(suite)))


def test_of_a_bare_matrix_nothing_can_be_told(project: Path) -> None:
    matrix = load_file(project / "C.safetensors")
    save_file(matrix, project / "C.safetensors")
    (project / "perfusion.toml").write_text(MANIFEST.format(base="other"))
    with Workspace.open(project) as workspace:
        lock(workspace, LockOptions())


def test_rows_that_shards_leave_out_are_told_of_each_and_of_all(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("more.txt").write_bytes((project / "captions.txt").read_bytes() + b"caf\xe9\n")
    counted = []
    for part in ("1/2", "2/2"):
        out = project / f"part-{part[0]}"
        options = CovarianceOptions(captions=("more.txt",), out=out, base="./own", skip_bad=True)
        result = by_parts(options, part, False)
        counted.append(out)
        _tell(result)
        assert "left out 1 unreadable rows, the first at more.txt:1201" in capsys.readouterr().out.replace(
            "line ", ""
        )
    merged = merge(MergeOptions(shards=counted, out=project / "merged"))
    assert (merged.skipped, merged.captions) == (1, 1200)
    _tell(merged)
    assert "left out 1 unreadable rows\n" in capsys.readouterr().out


def test_what_a_cluster_cannot_do_is_refused_before_it_is_asked(project: Path) -> None:
    cluster = ClusterAddress("local")
    out, base = project / "D.safetensors", "./own"
    with pytest.raises(PerfError, match="standard input"):
        estimate(CovarianceOptions(captions=("-",), out=out, base=base, cluster=cluster))
    options = CovarianceOptions(captions=("captions.txt",), out=out, base=base, cluster=cluster)
    with pytest.raises(PerfError, match="shares the captions out itself"):
        by_parts(options, "1/2", False)
    with pytest.raises(PerfError, match="with --merge only"):
        by_parts(options, None, True)


def test_a_shard_takes_what_a_whole_estimate_takes() -> None:
    runs = (estimate_covariance, count_covariance_shard)
    whole, shard = (set(signature(run).parameters) for run in runs)
    assert (shard - whole, whole - shard) == ({"shard"}, {"on", "shared_store"})
