"""A project on a base in one file: what is said of it is locked, and what is none every verb refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from perfusion_registry.base import layouts
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compose import PromptOptions, load_prompt
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.covariance import CovarianceOptions, estimate
from perfusion_registry.operations.doctor import doctor
from perfusion_registry.operations.evaluate import EvaluateOptions, evaluate
from perfusion_registry.operations.init import init
from perfusion_registry.operations.job import CompositionSource, RenderOverrides, load_job
from perfusion_registry.operations.lock import LockOptions, check_fresh, lock
from perfusion_registry.operations.verify import verify
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.reporter import Silent
from perfusion_registry.resolve import ProjectFolder
from tests.base.test_one_file import UNET, VAE, published
from tests.one_file import save_one_file, tiny_layout
from tests.operations.suites import words_alone

SAID = '\n[base]\nprediction = "v_prediction"\nzero_terminal_snr = true\n'


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_what_is_said_of_a_file_is_locked_and_comes_back(
    place: Path, tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = tiny_layout(tiny_base_folder, layouts.LAYOUTS[1])
    monkeypatch.setattr(layouts, "LAYOUTS", (layout,))
    save_one_file(tiny_base_folder, layout, place / "it.safetensors")
    (place / "C.safetensors").write_bytes(b"of no concern here")
    init(place, base="it.safetensors")
    manifest = place / "perfusion.toml"
    manifest.write_text(
        manifest.read_text().replace("[project]\n", '[project]\ncovariance = "C.safetensors"\n')
    )

    def locked() -> tuple[object, list[str], tuple[str, str]]:
        notes = Notes()
        with Workspace.open(place, reporter=notes) as workspace:
            lock(workspace, LockOptions())
            (told,) = [one for one in doctor(workspace).findings if one.what == "prediction"]
        return read_lockfile(place / "perfusion.lock").base, notes.notes, (told.state, told.told)

    plain, notes, told = locked()
    assert (plain.repo, plain.prediction) == ("./it.safetensors", None)
    assert [note for note in notes if "epsilon is assumed" in note]
    assert (told[0], "epsilon is assumed" in told[1]) == ("note", True)
    manifest.write_text(manifest.read_text() + SAID)
    asked, notes, told = locked()
    assert asked.prediction == "v_prediction zero_terminal_snr"
    assert (asked.family, asked.digest == plain.digest) == (plain.family, False)
    assert not notes
    assert told == ("ok", "it predicts v_prediction, with a zero terminal SNR, as perfusion.toml says")
    kept, _, _ = manifest.read_text().partition("\n[base]")
    shorter = SAID.replace("zero_terminal_snr = true\n", "")  # which only the file can tell from the same
    for edited in (SAID.replace("v_prediction", "epsilon"), SAID.replace("true", "false"), "", shorter):
        manifest.write_text(kept + edited)
        with Workspace.open(place) as workspace:
            findings = {one.what: one for one in doctor(workspace).findings}
            wrong = verify(workspace).checked[0].wrong
            reasons, _ = check_fresh(workspace)
        assert "[base] in perfusion.toml was edited" in findings["base"].told
        assert "`perf lock` and build again" in findings["base"].hint
        assert edited == shorter or "[base] in perfusion.toml was edited" in findings["lockfile"].told
        assert "[base] in perfusion.toml was edited" in str(wrong)
        assert "files" not in str(wrong)
        assert reasons == ["[base] in perfusion.toml was edited since the base was locked"]
    manifest.write_text(kept + SAID)
    with Workspace.open(place) as workspace:
        findings = {one.what: one.state for one in doctor(workspace).findings}
    assert (findings["base"], findings["lockfile"]) == ("ok", "ok")
    alone = ProjectFolder.of_lockfile(place, read_lockfile(place / "perfusion.lock"))
    with Workspace.open(place) as workspace:
        assert workspace.base(alone).digest == asked.digest


def test_what_is_no_base_is_refused_by_init_lock_and_doctor(place: Path) -> None:
    parts = {UNET: "UNET-XL-Refiner", VAE: "VAE-v1-SD", "conditioner.embedders.0.model.": "CLIP-XL-SD"}
    published(place / "refiner.safetensors", parts)
    (place / "old.ckpt").write_bytes(b"\x80\x02")
    for name, told in {"refiner.safetensors": "this is SDXL's refiner", "old.ckpt": "a pickle"}.items():
        with pytest.raises(PerfError, match=told):
            init(place, base=name)
        assert not (place / "perfusion.toml").exists()
    (place / "perfusion.toml").write_text('[project]\nname = "p"\nbase = "refiner.safetensors"\n')
    with Workspace.open(place) as workspace:
        with pytest.raises(PerfError, match="this is SDXL's refiner") as caught:
            lock(workspace, LockOptions())
        assert caught.value.where == str(place / "refiner.safetensors")
        (found,) = [one for one in doctor(workspace).findings if one.what == "base"]
    assert (found.state, "SDXL's refiner" in found.told) == ("broken", True)


def test_what_a_project_says_of_its_base_holds_wherever_it_is_named(
    place: Path, tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = tiny_layout(tiny_base_folder, layouts.LAYOUTS[1])
    monkeypatch.setattr(layouts, "LAYOUTS", (layout,))
    save_one_file(tiny_base_folder, layout, place / "it.safetensors")
    save_one_file(tiny_base_folder, layout, place / "another.safetensors")
    (place / "C.safetensors").write_bytes(b"read by builds alone")
    init(place, base="it.safetensors")
    manifest = place / "perfusion.toml"
    head = '[project]\ncovariance = "C.safetensors"\n'
    manifest.write_text(manifest.read_text().replace("[project]\n", head) + SAID)
    suites = place / "suites"
    suites.mkdir()
    (suites / "bear.toml").write_text(
        '[concept]\nname = "bear"\nversion = "1.0.0"\nsupercategory = "teddy"\nimages = ["*.png"]\n'
    )
    Image.new("RGB", (64, 64)).save(suites / "a.png")
    own = suites / "own.toml"
    suite = words_alone(f'clip = "{tiny_base_folder}/clip"', render="seeds = 1\nsteps = 1", metric="scene")
    own.write_text(suite)
    named = suites / "named.toml"
    named.write_text(f'base = "../it.safetensors"\ncovariance = "../C.safetensors"\n{suite}')
    bare = place / "bare.toml"  # a path without `./`, from the suite's own folder
    near = suite.replace("bear.toml", "suites/bear.toml")
    bare.write_text(f'base = "it.safetensors"\ncovariance = "C.safetensors"\n{near}')
    other = suites / "other.toml"
    other.write_text(f'base = "../another.safetensors"\ncovariance = "../C.safetensors"\n{suite}')
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    def measured(suite: Path) -> str:
        options = EvaluateOptions(
            suite=str(suite), out=place / "out", report=False, compute=ComputeOptions("cpu", "float32")
        )
        digest: str = evaluate(workspace, options).measured.environment.base_digest
        return digest

    with Workspace.open(place) as workspace:
        base = workspace.base(workspace.read())
        assert (base.prediction.kind, base.guidance_rescale) == ("v_prediction", 0.7)
        assert {measured(suite) for suite in (own, named, bare)} == {base.digest}
        assert measured(other) != base.digest
        own.write_text(words_alone(render="seeds = 1\nsteps = 1", metric="scene"))
        with pytest.raises(PerfError, match="without a CLIP model") as caught:
            measured(own)
        assert "`clip` in the suite" in caught.value.hint
        for name in ("../it.safetensors", str(place / "it.safetensors"), None):
            assert workspace.base_or_own(name).digest == base.digest
        assert workspace.base_or_own("../another.safetensors").prediction.told_by is None
        compute = ComputeOptions("cpu", "float32")
        composition = load_prompt(workspace, PromptOptions(prompt="a teddy", compute=compute)).composition
    assert composition.base.digest == base.digest
    monkeypatch.chdir(place)
    manifest.rename(
        place / "away.toml"
    )  # what was composed is drawn as it was, also where no project says it
    with Workspace.open(optional=True) as workspace:
        assert workspace.base_or_own("it.safetensors").digest != base.digest
        job = load_job(
            workspace, CompositionSource(composition=composition, compute=compute), RenderOverrides()
        )
    assert job.loaded.base.description.digest == base.digest
    assert job.loaded.base.pipe.scheduler.config.prediction_type == "v_prediction"
    assert job.loaded.base.description.guidance_rescale == 0.7
    (place / "away.toml").rename(manifest)
    monkeypatch.chdir(elsewhere)
    captions = elsewhere / "captions.txt"
    captions.write_text("a teddy\n" * 40)
    notes = Notes()
    out = elsewhere / "C.safetensors"
    estimate(CovarianceOptions(captions=[str(captions)], out=out, base="../it.safetensors"), notes)
    assert "as perfusion.toml says" in notes.notes[0]
