"""`export` and `link`: what leaves is opened by diffusers' stock loaders, and draws the ungated edit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.cli import app
from perfusion_registry.compose.drawings import pack_by
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.compose import PromptOptions
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.export import SEEDS, ExportOptions, ExportResult, export, is_poor
from perfusion_registry.operations.job import RenderJob, RenderOverrides, load_job
from perfusion_registry.operations.link import LinkOptions, link
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.render.draw import render
from tests.cuda_stand_in import cuda_stand_in
from tests.operations.conftest import QUICK, project_on, working_in
from tests.operations.test_build_time import Hearing
from tests.sdxl import WIDTHS, save_shallow_sdxl
from tests.tiny import state_of

CPU = ComputeOptions("cpu", "float32")
PROMPT = "a photo of a {}"
STEPS, GUIDANCE = 2, 2.0


Projects = Callable[[str, Path], Path]
"""Copies a project on a base of a kind, SD or SDXL, to a place; the base."""


@pytest.fixture(scope="module")
def projects(
    shared: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path
) -> Projects:
    """With a perfusion concept each, strongly changed so that a picture shows it, and built once."""

    @cache
    def made(kind: str) -> tuple[Path, Path]:
        base = shared("shallow-sdxl", save_shallow_sdxl) if kind == "SDXL" else tiny_base_folder
        folder = tmp_path_factory.mktemp(kind)
        with working_in(folder):
            project_on(folder, base, width=sum(WIDTHS) if kind == "SDXL" else 32)
            strengthened(folder)
        return folder, base

    def copied(kind: str, place: Path) -> Path:
        folder, base = made(kind)
        shutil.copytree(folder, place, dirs_exist_ok=True)
        return base

    return copied


@pytest.fixture(params=["SD", "SDXL"])
def built(request: pytest.FixtureRequest, place: Path, projects: Projects) -> tuple[Path, Path]:
    """Such a project, and its base."""
    return place, projects(request.param, place)


def strengthened(root: Path) -> None:
    """Build, and put random offsets, tokens and residuals into what is locked."""
    with Workspace.open(root) as workspace:
        build(workspace, BuildOptions(compute=CPU))
        lock = root / "perfusion.lock"
        sha256 = str(read_lockfile(lock).concepts[0].sha256)
        artifact = load_artifact(workspace.store.get(sha256))
        noise = torch.Generator().manual_seed(0)
        tensors = {
            name: tensor + 0.5 * torch.randn(tensor.shape, generator=noise).to(tensor.dtype)
            if name.startswith(("offset", "residual", "embedding"))
            else tensor
            for name, tensor in artifact.tensors.items()
        }
        changed = workspace.store.put(save_artifact(Artifact(artifact.card, tensors)))
    lock.write_text(lock.read_text().replace(sha256, changed))


def exported(root: Path, **options: Any) -> ExportResult:
    with Workspace.open(root) as workspace:
        return export(workspace, ExportOptions(**{"name": "bear", "compute": CPU, **options}))


def job_of(root: Path) -> RenderJob:
    with Workspace.open(root) as workspace:
        source = PromptOptions(prompt=PROMPT.format("bear*"), compute=CPU)
        return load_job(workspace, source, RenderOverrides(seeds=SEEDS))


def original(job: RenderJob) -> list[Image.Image]:
    loaded = job.loaded
    drawn = render(loaded.base, loaded.composition, job.request, loaded.artifacts)
    return [one.image for one in drawn]


def stock(base: Path) -> Any:
    """The base in diffusers' own pipeline, with the scheduler that perf draws by."""
    sdxl = (base / "text_encoder_2").is_dir()
    pipe: Any = (
        StableDiffusionXLPipeline.from_pretrained(base, add_watermarker=False)
        if sdxl
        else StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe: Any, prompt: str) -> list[Image.Image]:
    return [
        pipe(
            prompt,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            width=64,
            height=64,
            generator=[torch.Generator("cpu").manual_seed(seed)],
        ).images[0]
        for seed in SEEDS
    ]


def levels(some: list[Image.Image], others: list[Image.Image]) -> float:
    pairs = zip(some, others, strict=True)
    return float(np.mean([np.abs(np.asarray(a, "f4") - np.asarray(b, "f4")).mean() for a, b in pairs]))


def with_token(pipe: Any, file: Path, word: str) -> None:
    """As diffusers' documentation has it for either kind of base."""
    tensors = load_file(file)
    if len(tensors) == 1:
        pipe.load_textual_inversion(str(file.parent), weight_name=file.name)
        return
    for name, encoder, tokenizer in (
        ("clip_l", pipe.text_encoder, pipe.tokenizer),
        ("clip_g", pipe.text_encoder_2, pipe.tokenizer_2),
    ):
        pipe.load_textual_inversion(tensors[name], token=word, text_encoder=encoder, tokenizer=tokenizer)


def test_a_perfusion_concept_leaves_as_its_token_and_its_ungated_edit(built: tuple[Path, Path]) -> None:
    root, base = built
    result = exported(root, form="lora")
    lora, token = (Path(file.path) for file in result.files)
    assert [file.holds for file in result.files] == ["lora", "textual-inversion"]
    assert (lora, token) == (
        root / "exports" / "bear.safetensors",
        root / "exports" / "perf-bear.safetensors",
    )
    assert result.prompt == "a photo of a perf-bear"
    assert result.kind is None  # the text of a tiny base is as wide as nobody's
    assert (
        f"for {result.base} and what is fine-tuned from it: with any other base, Stable Diffusion too, it is "
        "useless" in result.for_base
    )
    pipe = stock(base)
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    with_token(pipe, token, "perf-bear")
    theirs = drawn(pipe, result.prompt)

    job = job_of(root)
    loaded, request = job.loaded, job.request
    assert (request.steps, request.guidance, request.scheduler) == (STEPS, GUIDANCE, "ddim")
    arguments = (loaded.base, loaded.composition, request, loaded.artifacts)
    gated = [one.image for one in render(*arguments)]
    assert levels(theirs, gated) > 1
    assert result.pictures == pytest.approx(levels(theirs, gated), abs=0.3)
    plain = drawn(stock(base), "a photo of a teddy")
    assert result.plain == pytest.approx(levels(plain, gated), abs=0.3)
    sdxl = len(loaded.base.embedding_tables) > 1
    ungated = [one.image for one in render(*arguments, packing=partial(pack_by, "ungated"))]
    # Of SDXL, a stock pipeline's pooled vector has the token too, and perf's the plain word's.
    assert levels(theirs, ungated) < (levels(theirs, gated) if sdxl else 0.3)
    assert result.encodings is not None
    assert result.encodings > 0.01


def test_the_lora_is_exactly_equation_2(built: tuple[Path, Path]) -> None:
    """What K and V emit with it is what `edit.ungated` gives, for encodings of no prompt too."""
    from perfusion_registry import edit
    from perfusion_registry.compose.contributing import targets

    root, base = built
    lora = Path(exported(root, form="lora").files[0].path)
    loaded = job_of(root).loaded
    every, bank = targets(loaded.base, loaded.composition, loaded.artifacts), loaded.base.bank
    E = torch.randn(5, bank.width, generator=torch.Generator().manual_seed(1))
    wanted = edit.ungated(E, bank.W, every.I, every.V, every.O)
    pipe = stock(base)
    pipe.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pipe.fuse_lora()
    modules = dict(pipe.unet.named_modules())
    for layer in bank.layers:
        for name, columns in (("to_k", layer.key_slice), ("to_v", layer.value_slice)):
            emitted = modules[f"{layer.path}.{name}"](E)
            assert torch.allclose(emitted, wanted[:, columns], atol=1e-4), (layer.path, name)
    assert (wanted - E @ bank.W.T).abs().max() > 0.1


def test_the_difference_and_the_word_are_written_into_the_files(built: tuple[Path, Path]) -> None:
    root, base = built
    result = exported(root, form="lora", word="<my-bear>")
    for file in result.files:
        with safe_open(file.path, "pt") as opened:
            said = opened.metadata()
        assert said["modelspec.trigger_phrase"] == "<my-bear>"
        assert said["perf.concept"] == "bear 1.0.0"
        assert said["perf.difference_of_pictures"].startswith(f"{result.pictures:.2f} of 255")
        assert said["perf.prompt"] == "a photo of a <my-bear>" == result.prompt
        assert said["ss_sd_model_name"] == str(base) == result.base
    again = exported(root, form="lora", word="<my-bear>")
    assert again == result  # the same bytes, over the files that were there
    alone = exported(root, form="textual-inversion", out=root / "tokens")
    assert [file.holds for file in alone.files] == ["textual-inversion"]
    assert alone.pictures > 0
    token = Path(alone.files[0].path)
    pipe = stock(base)
    with_token(pipe, token, "perf-bear")
    theirs = pipe.text_encoder.get_input_embeddings().weight[-1]
    job = job_of(root)
    assert torch.equal(theirs, job.loaded.artifacts["bear"].tensors["embedding"])


def test_a_base_is_the_same_after_an_export(place: Path, tiny_base_folder: Path) -> None:
    from perfusion_registry.adapters.adapter import Adapter
    from perfusion_registry.base import describe_base, load_base
    from perfusion_registry.base.changed import weights_changed

    base = load_base(describe_base(str(tiny_base_folder)), "cpu", "float32")
    before = state_of(base)
    path = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    adapter = Adapter(
        "denoiser", path, "lora", {"lora_down": torch.randn(1, 32), "lora_up": torch.randn(64, 1)}
    )
    with weights_changed({"denoiser": base.denoiser}, [adapter]):
        assert state_of(base) != before
    assert state_of(base) == before
    broken = Adapter(
        "denoiser", path, "lora", {"lora_down": torch.randn(1, 31), "lora_up": torch.randn(64, 1)}
    )
    with (
        pytest.raises(ValueError, match="do not fit"),
        weights_changed({"denoiser": base.denoiser}, [adapter, broken]),
    ):
        pass
    assert state_of(base) == before


RESIDUALS = """
[concept]
name = "bear"
version = "0.1.0"
method = "residuals"
supercategory = "teddy"
images = ["../photos/*"]
"""


def test_a_residual_leaves_as_a_plain_lora(place: Path, tiny_base_folder: Path) -> None:
    """At the concept's own strength, of everywhere; stock diffusers draws what perf's denoiser does with the
    residual everywhere."""
    project_on(place, tiny_base_folder)
    (place / "recipes" / "bear.toml").write_text(RESIDUALS + QUICK)
    strengthened(place)
    result = exported(place, form="lora")
    assert [Path(file.path).name for file in result.files] == ["bear.safetensors"]
    assert (result.word, result.prompt, result.encodings) == (None, "a photo of a sks teddy", None)
    pipe = stock(tiny_base_folder)
    pipe.load_lora_weights(str(place / "exports"), weight_name="bear.safetensors")
    theirs = drawn(pipe, result.prompt)
    job = job_of(place)
    loaded = job.loaded
    assert result.pictures == pytest.approx(levels(theirs, original(job)), abs=0.3)
    from perfusion_registry.compose.contributing import contributions

    brought = contributions(loaded.base, loaded.composition, loaded.artifacts)["bear"]
    pipe.fuse_lora()
    noise = torch.Generator().manual_seed(2)
    for block in loaded.base.residual_blocks[:2]:
        A, B = brought.factors[block.path]
        x = torch.randn(2, A.shape[1], 4, 4, generator=noise)
        added = torch.einsum("or,ri,bihw->bohw", B.float(), A.float(), x) * brought.strength
        wanted = block.projection.module(x) + added
        made = dict(pipe.unet.named_modules())[f"{block.path}.proj_out"](x)
        assert torch.allclose(made, wanted, atol=1e-4)
        assert added.abs().max() > 0.1
    with pytest.raises(PerfError, match="has no token of its own"):
        exported(place, form="textual-inversion")


TARGETS = """steps = 2
token = "ted"
learn_token = true
targets = ["proj_out", "proj_in", "kv"]
rank = 0.2
learning_rate = 0.05
"""


def test_normal_sampling_is_what_stock_diffusers_draws_of_the_export(
    place: Path, tiny_base_folder: Path
) -> None:
    """All targets in the weights, and the learned word, whose letters the supercategory begins with: the
    very pictures, so nothing else is in the concept."""
    project_on(place, tiny_base_folder)
    quick = QUICK.replace("steps = 1\n", TARGETS, 1)
    (place / "recipes" / "bear.toml").write_text(RESIDUALS + quick)
    with Workspace.open(place) as workspace:
        build(workspace, BuildOptions())
    result = exported(place, form="lora")
    assert {Path(file.path).name for file in result.files} == {"bear.safetensors", "perf-bear.safetensors"}
    assert result.prompt == "a photo of a perf-bear teddy"
    assert result.pictures < 0.2 < 2 < result.plain
    assert result.encodings is not None
    assert result.encodings < 1e-3


@pytest.mark.parametrize(
    ("pictures", "plain", "begins"),
    [
        (0.2, 38.2, "It draws what the concept draws"),
        (27.1, 37.4, "It is not the concept itself"),
        (35.6, 38.2, "It is poor, hardly nearer to the concept than the plain word is"),
        (38.4, 38.2, "It is poor"),
    ],
)
def test_a_poor_export_is_told(pictures: float, plain: float, begins: str) -> None:
    result = ExportResult(
        name="bear",
        version="1.0.0",
        base="sd15",
        kind="Stable Diffusion 1",
        word=None,
        prompt="a photo of a bear",
        files=(),
        encodings=None,
        pictures=pictures,
        plain=plain,
        poor=is_poor(pictures, plain),
        seeds=2,
    )
    assert result.sentence.startswith(begins)
    assert (
        f"by {pictures:.1f} of 255 from the concept's, those of the plain word by {plain:.1f}"
        in result.sentence
    )
    assert (
        result.for_base
        == "It was made for sd15; another base of the kind of Stable Diffusion 1 draws it less alike"
    )


def test_a_textual_inversion_is_no_lora(place: Path, tiny_base_folder: Path) -> None:
    project_on(place, tiny_base_folder)
    (place / "recipes" / "bear.toml").write_text(RESIDUALS.replace("residuals", "textual-inversion") + QUICK)
    strengthened(place)
    with pytest.raises(PerfError, match="changes no weights, which a LoRA does") as caught:
        exported(place, form="lora")
    assert caught.value.hint == "--as textual-inversion"
    result = exported(place, form="textual-inversion")
    pipe = stock(tiny_base_folder)
    with_token(pipe, Path(result.files[0].path), "perf-bear")
    job = job_of(place)
    ours = [
        one.image
        for one in render(job.loaded.base, job.loaded.composition, job.request, job.loaded.artifacts)
    ]
    assert levels(drawn(pipe, result.prompt), ours) < 0.3  # it is the very concept
    assert result.pictures < 0.3
    assert result.plain > 1


def test_wrong_wishes_are_refused_before_anything_is_loaded(place: Path) -> None:
    for options, told in (
        ({"form": "ckpt"}, "a concept cannot leave as 'ckpt'"),
        ({"form": "lora", "word": "two words"}, "is no one word that other programs take"),
        ({"form": "lora", "word": "<bear>"}, "the LoRA has that name"),
    ):
        with pytest.raises(PerfError, match=told):
            ExportOptions(**{"name": "bear", **options})


def test_other_files_are_not_overwritten(place: Path, projects: Projects) -> None:
    projects("SD", place)
    other = place / "exports" / "bear.safetensors"
    other.parent.mkdir()
    save_file({"a": torch.ones(1)}, other)
    before = other.read_bytes()
    with pytest.raises(PerfError, match="there is a file that perf did not export"):
        exported(place, form="lora")
    assert other.read_bytes() == before
    assert not (place / "exports" / "perf-bear.safetensors").exists()
    exported(place, form="lora", force=True)
    assert other.read_bytes() != before


def test_the_commands_say_what_they_did(place: Path, projects: Projects) -> None:
    projects("SD", place)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    told = " ".join(run("export", "bear", "--as", "textual-inversion", "--device", "cpu", "-q").split())
    assert "Wrote" in told
    assert "perf-bear.safetensors" in told
    assert "It is not the concept itself: its pictures differ by" in told
    assert 'it is useless. Prompts call it as in "a photo of a perf-bear"' in told
    (place / "ui" / "models" / "loras").mkdir(parents=True)
    printed = json.loads(run("link", "ui", "--json"))
    assert (printed["schema"], printed["program"]) == ("perf.link/1", "ComfyUI")
    assert [file["how"] for file in printed["files"]] == ["linked"]
    assert "As it is:" in run("link", "ui")


PROGRAMS = {
    "ComfyUI": (("models/loras", "models/embeddings"), "ComfyUI"),
    "web UI": (("models/Lora", "embeddings"), "a web UI (A1111, Forge)"),
    "SwarmUI": (("Models/Lora", "Models/Embeddings"), "SwarmUI"),
}


def an_export(folder: Path, name: str, **said: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.ones(1)}, folder / name, {"perf.concept": "bear 1.0.0", **said})
    return folder / name


@pytest.mark.parametrize("called", PROGRAMS)
def test_exports_are_linked_where_programs_look(place: Path, called: str) -> None:
    (loras, embeddings), program = PROGRAMS[called]
    lora = an_export(place / "exports", "bear.safetensors", ss_network_module="networks.lora")
    token = an_export(place / "exports", "perf-bear.safetensors")
    save_file({"a": torch.ones(1)}, place / "exports" / "stranger.safetensors")
    ui = place / "ui"
    (ui / loras).mkdir(parents=True)

    def linked(**options: Any) -> list[str]:
        with Workspace.open(optional=True) as workspace:
            result = link(workspace, LinkOptions(folder=ui, source=place / "exports", **options))
        assert result.program == program
        return [file.how for file in result.files]

    assert linked() == ["linked", "linked"]
    assert (ui / loras / "bear.safetensors").resolve() == lora.resolve()
    assert (ui / embeddings / "perf-bear.safetensors").resolve() == token.resolve()
    assert len(list((ui / loras).iterdir())) == 1
    assert linked() == ["there", "there"]
    assert linked(copy=True) == ["copied", "copied"]
    assert linked(copy=True) == ["there", "there"]
    assert not (ui / loras / "bear.safetensors").is_symlink()
    other = ui / embeddings / "perf-bear.safetensors"
    save_file({"b": torch.ones(1)}, other)
    before = other.read_bytes()
    (ui / loras / "bear.safetensors").unlink()
    with pytest.raises(PerfError, match="there is another file of that name"):
        linked()
    assert other.read_bytes() == before
    assert not (ui / loras / "bear.safetensors").exists()  # nothing is done by halves
    assert linked(force=True) == ["linked", "linked"]


def test_what_cannot_be_linked_is_said(place: Path) -> None:
    (place / "ui" / "models").mkdir(parents=True)
    with Workspace.open(optional=True) as workspace:
        with pytest.raises(PerfError, match="no folder of ComfyUI, a web UI or SwarmUI"):
            link(workspace, LinkOptions(folder=place / "ui"))
        (place / "ui" / "models" / "loras").mkdir()
        with pytest.raises(PerfError, match="there are no exports to link"):
            link(workspace, LinkOptions(folder=place / "ui", source=place / "exports"))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["model", "group"])
@pytest.mark.parametrize("form", ["lora", "textual-inversion"])
def test_it_is_measured_alike_where_the_base_is_offloaded(
    place: Path, projects: Projects, form: str, how: Offload
) -> None:
    projects("SD", place)
    here = exported(place, form=form, out=Path("here"))
    with cuda_stand_in():
        compute = ComputeOptions("cuda", "float32", offload=how)
        there = exported(place, form=form, out=Path("there"), compute=compute)
    assert there.encodings == pytest.approx(here.encodings, rel=1e-3)
    assert there.pictures == pytest.approx(here.pictures, abs=0.2)


def test_what_an_export_draws_is_told_and_its_bars_end_full(built: tuple[Path, Path]) -> None:
    root, _ = built
    hearing = Hearing()
    with Workspace.open(root, reporter=hearing) as workspace:
        export(workspace, ExportOptions(name="bear", form="lora", compute=CPU))
    assert f"{3 * len(SEEDS)} pictures are drawn" in " ".join(hearing.notes)
    drawing = [stage for stage in hearing.stages if stage.title.startswith("Drawing")]
    assert len(drawing) == 2
    for stage in drawing:
        assert stage.total is not None
        assert stage.done == stage.total == stage.moves  # told step by step
