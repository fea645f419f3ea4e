"""`perf covariance`: captions in, a file and a summary out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from diffusers import EDMEulerScheduler
from typer.testing import CliRunner

from perfusion_registry.build import load_covariance
from perfusion_registry.cli.application import application
from perfusion_registry.operations.init import init
from tests.build.test_covariance import captions


def run(*arguments: object) -> Any:
    return CliRunner().invoke(application(["covariance"]), ["covariance", *map(str, arguments)])


def test_captions_become_a_covariance_file(tiny_base_folder: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "captions.csv", tmp_path / "c.safetensors"
    table.write_text("n,text\n" + "".join(f"1,{text}\n" for text in captions(60)) + "short\n")
    common = (table, "--base", tiny_base_folder, "--out", out, "--device", "cpu")
    failed = run(*common)
    assert failed.exit_code == 2
    assert "captions.csv:62" in failed.stderr.replace("\n", "")
    assert not out.exists()

    done = run(*common, "--skip-bad", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    found = load_covariance(out, width=32)
    assert said["digest"] == found.digest
    assert (said["captions"], said["skipped"], said["width"]) == (60, 1, 32)
    assert (said["positions"], said["padding"]) == (60 * 77, "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.safetensors", "captions.csv"]

    told = run(*common, "--limit", 10, "--padding", "none")
    assert "10 captions" in told.stdout
    assert "10 captions are few for a covariance of 32 x 32" in told.stderr.replace("\n", " ")
    assert load_covariance(out).card.padding == "none"


def test_too_few_captions_for_its_width_are_refused_and_leave_nothing(
    tiny_base_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "captions.txt").write_text("a cat\na dog\n")
    refused = run(tmp_path / "captions.txt", "--base", tiny_base_folder, "--out", tmp_path / "c.safetensors")
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert "2 captions with 8 tokens cannot fill a covariance of 32 x 32" in said
    assert [path.name for path in tmp_path.iterdir()] == ["captions.txt"]


def test_the_base_is_the_projects(
    tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    init(tmp_path, base=str(tiny_base_folder))
    (tmp_path / "captions.txt").write_text("\n".join(captions(60)))
    done = run("captions.txt", "--out", "c.safetensors", "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["width"], said["base"]) == (32, str(tiny_base_folder))


def test_a_base_that_cannot_be_trained_on_is_told_before_the_captions_are_read(
    tiny_base_folder: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_base_folder, tmp_path / "base")
    EDMEulerScheduler().save_pretrained(base / "scheduler")
    (tmp_path / "captions.txt").write_text("a cat\n")
    refused = run(tmp_path / "captions.txt", "--base", base, "--out", tmp_path / "c.safetensors")
    assert refused.exit_code == 2
    assert "No concept can be trained on this base: its scheduler, EDMEulerScheduler" in refused.stderr
    assert not (tmp_path / "c.safetensors").exists()


def test_an_output_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    for out, what in ((tmp_path, "folder"), (tmp_path / "no" / "c", "does not exist")):
        refused = run("captions.txt", "--out", out)
        assert refused.exit_code == 2
        assert what in refused.stderr
