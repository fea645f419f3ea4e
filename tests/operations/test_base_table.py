"""`[base]` of a manifest: locked, told, repeated by a lockfile alone, and below what commands say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.compose import PromptOptions, load_prompt
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.covariance import CovarianceOptions, estimate
from perfusion_registry.operations.doctor import doctor
from perfusion_registry.operations.evaluate import EvaluateOptions, evaluate
from perfusion_registry.operations.init import init
from perfusion_registry.operations.job import CompositionSource, RenderOverrides, load_job
from perfusion_registry.operations.lock import LockOptions, check_fresh, lock
from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.verify import verify
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.resolve import ProjectFolder
from tests.operations.suites import words_alone

TO_OUT = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0"
SAID = """
[base]
vae = "./other"
scorer = "./clip"
steps = 3
guidance = 1.5
scheduler = "LCMScheduler"

[[base.lora]]
file = "few.safetensors"
strength = 0.5
train = false

[base.embeddings]
mystyle = "style.safetensors"
"""


@pytest.fixture
def said(project: Path, tiny_base_folder: Path) -> Path:
    """The project, and what its `[base]` names."""
    shutil.copytree(tiny_base_folder / "vae", project / "other")
    shutil.copytree(tiny_base_folder / "clip", project / "clip")
    save_file({"emb_params": torch.randn(2, 32)}, project / "style.safetensors")
    lora = {f"{TO_OUT}.lora_A.weight": torch.randn(2, 32), f"{TO_OUT}.lora_B.weight": torch.randn(32, 2)}
    save_file(lora, project / "few.safetensors")
    return project


def manifest(project: Path, text: str) -> None:
    path = project / "perfusion.toml"
    before = path.read_text().partition("\n[base]")[0]
    path.write_text(before + text)


def locked(project: Path) -> Any:
    with Workspace.open(project) as workspace:
        lock(workspace, LockOptions())
    return read_lockfile(project / "perfusion.lock").base


def test_it_is_locked_by_hash_told_and_comes_back(said: Path) -> None:
    plain = locked(said)
    assert plain.options is None
    before = (said / "perfusion.lock").read_text()
    manifest(said, SAID)
    with Workspace.open(said) as workspace:
        reasons, _ = check_fresh(workspace)
        findings = {one.what: one for one in doctor(workspace).findings}
    assert reasons[:1] == ["[base] in perfusion.toml was edited since the base was locked"]
    assert "`vae`, `scorer`, `lora`, `embeddings`, `steps`" in findings["base"].told
    with Workspace.open(said) as workspace:
        lines = lock(workspace, LockOptions()).lines
        told = [one.told for one in doctor(workspace).findings if one.what == "[base]"]
        assert doctor(workspace).findings
    assert "([base] of perfusion.toml changed)" in lines[0]
    base = read_lockfile(said / "perfusion.lock").base
    assert (base.family, base.digest == plain.digest) == (plain.family, False)
    parts = {(file.part, file.path.rpartition("/")[2]) for file in base.files if file.part}
    assert {("adapter", "few.safetensors"), ("embedding", "style.safetensors")} < parts
    assert {part for part, _ in parts} == {"vae", "scorer", "adapter", "embedding"}
    assert [line.partition(":")[0] for line in told] == ["vae", "scorer", "lora", "embeddings", "defaults"]
    assert "strength 0.5, for drawing alone" in told[2]
    with Workspace.open(said) as workspace:
        assert check_fresh(workspace)[0] == []
        alone = ProjectFolder.of_lockfile(said, read_lockfile(said / "perfusion.lock"))
        assert workspace.base(alone).digest == base.digest
        described = workspace.base(workspace.read())
    assert described.card.render["steps"] == 3

    lora = (said / "few.safetensors").read_bytes()
    (said / "few.safetensors").write_bytes(lora[:-1] + bytes([lora[-1] ^ 1]))
    with Workspace.open(said) as workspace:
        findings = {one.what: one for one in doctor(workspace).findings}
        wrong = verify(workspace).checked[0].wrong
        assert check_fresh(workspace)[0] == ["what [base] in perfusion.toml names changed"]
    assert "its files are not those locked: few.safetensors" in findings["base"].told
    assert "few.safetensors" in str(wrong)
    (said / "few.safetensors").write_bytes(lora)

    manifest(said, SAID.replace("steps = 3", "steps = 4"))
    again = locked(said)
    assert (again.digest, again.options.steps) == (base.digest, 4)
    manifest(said, "")
    locked(said)
    with Workspace.open(said) as workspace:
        assert check_fresh(workspace)[0] == []
    assert locked(said) == plain
    assert "options." not in before


def test_another_projects_manifest_is_its_base_wherever_a_base_is_named(
    said: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest(said, SAID.replace("[base]\n", "[base]\nclip_skip = 2\n", 1))
    suites = said / "suites"
    suites.mkdir()
    image = next((said / "photos").iterdir())
    shutil.copy(image, suites / "a.png")
    recipe = '[concept]\nname = "bear"\nversion = "1.0.0"\nsupercategory = "teddy"\nimages = ["*.png"]\n'
    (suites / "bear.toml").write_text(recipe)
    suite = suites / "suite.toml"
    suite.write_text(words_alone('base = "../perfusion.toml"', render="seeds = 1", metric="text"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    compute = ComputeOptions("cpu", "float32")
    with Workspace.open(said) as workspace:
        base = workspace.base(workspace.read())
    with Workspace.open(optional=True) as workspace:
        assert workspace.base_or_own("../perfusion.toml").digest == base.digest
        assert workspace.base_named("perfusion.toml", said).digest == base.digest
        with pytest.raises(PerfError, match=r"is called perfusion\.toml"):
            workspace.base_named("../suites/bear.toml")
        options = EvaluateOptions(suite=str(suite), out=elsewhere / "out", report=False, compute=compute)
        measured = evaluate(workspace, options).measured
    assert measured.environment.base_digest == base.digest
    assert (elsewhere / "out" / "results.json").is_file()
    (elsewhere / "captions.txt").write_text("a teddy on a table\n" * 40)
    result = estimate(
        CovarianceOptions(captions=["captions.txt"], out=Path("C.safetensors"), base="../perfusion.toml")
    )
    assert result
    with safe_open(elsewhere / "C.safetensors", "pt") as opened:
        assert base.text_weights in opened.metadata()["covariance"]  # of what is read with clip skip
    with pytest.raises(PerfError, match="a project's manifest, not a base"):
        init(elsewhere, base="../perfusion.toml")


def test_a_base_without_a_judge_is_told_how_to_get_one(
    project: Path, tiny_base_folder: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(tiny_base_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("clip"))
    shutil.copytree(tiny_base_folder / "clip", project / "clip")
    path = project / "perfusion.toml"
    path.write_text(path.read_text().replace(str(tiny_base_folder), str(bare)))

    def told() -> list[str | None]:
        with Workspace.open(project) as workspace:
            return [one.hint for one in doctor(workspace).findings if one.what == "scorer"]

    assert told() == ["name one as `scorer` under [base] in perfusion.toml"]
    manifest(project, '\n[base]\nscorer = "./clip"\n')
    assert told() == []


def test_what_is_for_drawing_alone_makes_no_concept_stale(said: Path) -> None:
    def key() -> tuple[str, str]:
        with Workspace.open(said) as workspace:
            (task,) = load_plan(workspace).plan.tasks
        return task.training, task.reason

    plain, _ = key()
    for text in (
        SAID.partition("[[base.lora]]")[2].join(["\n[base]\nsteps = 3\n\n[[base.lora]]", ""]),
        '\n[base]\nguidance = 2.0\n[base.embeddings]\nmystyle = "style.safetensors"\n',
    ):
        manifest(said, text)
        assert key()[0] == plain
    manifest(said, '\n[base]\nscorer = "./clip"\n')
    assert key()[0] != plain
    manifest(said, '\n[base]\n[[base.lora]]\nfile = "few.safetensors"\n')
    assert key()[0] != plain


def test_a_concept_is_learned_without_what_is_for_drawing_alone(said: Path) -> None:
    def built() -> str:
        with Workspace.open(said) as workspace:
            build(workspace, BuildOptions(force=True, compute=ComputeOptions("cpu", "float32")))
        concept = read_lockfile(said / "perfusion.lock").concept("bear")
        assert concept is not None
        return str(concept.sha256)

    lora = '\n[base]\n[[base.lora]]\nfile = "few.safetensors"\n'
    plain = built()
    manifest(said, f"{lora}train = false\n")
    assert built() == plain
    manifest(said, lora)
    assert built() != plain


def test_a_command_says_more_than_the_table_and_the_table_more_than_the_card(said: Path) -> None:
    manifest(said, SAID)

    def request(**overrides: Any) -> Any:
        compute = ComputeOptions("cpu", "float32")
        with Workspace.open(said) as workspace:
            source = PromptOptions(prompt="a cat on mystyle", compute=compute)
            job = load_job(workspace, source, RenderOverrides(**overrides))
        return job.request

    plain = request()
    assert (plain.steps, plain.guidance, plain.scheduler, plain.width) == (3, 1.5, "LCMScheduler", 64)
    other = request(steps=5, scheduler="euler")
    assert (other.steps, other.guidance, other.scheduler) == (5, 1.5, "euler")


def test_what_was_composed_before_an_edit_is_drawn_by_the_base_of_then(said: Path) -> None:
    compute = ComputeOptions("cpu", "float32")
    with Workspace.open(said) as workspace:
        composition = load_prompt(workspace, PromptOptions(prompt="a cat", compute=compute)).composition
        manifest(said, SAID)
        job = load_job(
            workspace, CompositionSource(composition=composition, compute=compute), RenderOverrides()
        )
        assert workspace.base(workspace.read()).digest != composition.base.digest
    assert job.loaded.base.description.digest == composition.base.digest


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        ("steps = 0", "base.steps", "greater than or equal to 1"),
        ("clip_skip = 99", "base.clip_skip", "less than or equal to 12"),
        ("scale = 3", "base.scale", "unknown key"),
        ('scheduler = "fast"', "base.scheduler", "scheduler"),
        ('vae = "nowhere.safetensors"', "base.vae", "does not exist"),
        ('scheduler = "FooScheduler"', "base.scheduler", "has no form as FooScheduler"),
        ('[[base.lora]]\nfile = "style.safetensors"', "base.lora[0].file", "not a LoRA"),
        ('[base.embeddings]\nStyle = "style.safetensors"', "base.embeddings", "lower case"),
    ],
)
def test_wrong_values_are_refused_by_lock_and_doctor_with_their_place(
    said: Path, text: str, where: str, told: str
) -> None:
    manifest(said, f"\n[base]\n{text}\n")
    with Workspace.open(said) as workspace:
        with pytest.raises(PerfError) as caught:
            lock(workspace, LockOptions())
        broken = [one for one in doctor(workspace).findings if one.state == "broken"]
    error = f"{caught.value.where} {caught.value.what}"
    assert told in error
    assert where in error
    assert broken
