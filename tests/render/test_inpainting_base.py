"""A base that is made for inpainting, of nine channels: `perf render --mask` draws with it as its own
pipeline does, concepts of its family are drawn, and what it cannot do is refused before it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from typer.testing import CliRunner

from perfusion_registry.base import describe_base, layouts, load_base
from perfusion_registry.cli import app
from perfusion_registry.operations.doctor import doctor
from perfusion_registry.operations.overrides import RenderOverrides
from perfusion_registry.operations.workspace import Workspace
from tests.controls import save_controlnet
from tests.one_file import save_one_file, tiny_layout
from tests.render.test_controls import drawn, loaded
from tests.render.test_start import drawn as drawn_plainly
from tests.render.test_start import files as files
from tests.sdxl import save_shallow_sdxl
from tests.tiny import same_picture

PLAIN = "a red hat in the snow"


def widened(base: Path, folder: Path, pipeline: Any) -> Path:
    """The base with a UNet of nine channels, as diffusers saves one for inpainting."""
    pipe = pipeline.from_pretrained(base)
    torch.manual_seed(0)
    wide = UNet2DConditionModel.from_config({**pipe.unet.config, "in_channels": 9})
    kept = {name: one for name, one in pipe.unet.state_dict().items() if name != "conv_in.weight"}
    wide.load_state_dict(kept, strict=False)
    alone = {"add_watermarker": False} if "XL" in pipeline.__name__ else {"requires_safety_checker": False}
    pipeline(**{**pipe.components, "unet": wide}, **alone).save_pretrained(folder)
    (folder / "perf-base.toml").write_text((base / "perf-base.toml").read_text())
    return folder


@pytest.fixture(scope="module")
def nine(tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("nine") / "it"
    return widened(tiny_base_folder, made, StableDiffusionInpaintPipeline)


def stock(pipe: Any, files: tuple[Path, Path], **inputs: Any) -> np.ndarray:
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(5)
    said = {"image": Image.open(files[0]).convert("RGB"), "mask_image": Image.open(files[1]), "strength": 1.0}
    size = {"width": 96, "height": 64, "num_inference_steps": 3, "guidance_scale": 3.0}
    made = pipe(**{"prompt": PLAIN, "negative_prompt": "", **said, **size, **inputs}, generator=generator)
    return np.asarray(made.images[0])


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


HOW = (
    "--size",
    "96x64",
    "--steps",
    3,
    "--guidance",
    3,
    "--seed",
    5,
    "--scheduler",
    "ddim",
    "--dtype",
    "fp32",
)


def test_a_project_on_it_draws_into_masks(
    project: Any, nine: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    image, mask = files
    into = ("--image", image, "--mask", mask)
    # Concepts of its family, in a project on the base that it was made from.
    (there,) = run(
        "render", "a teddy* at night", "--for", nine, *into, *HOW, "--out", "for.png"
    ).stdout.split()
    manifest = (project.root / "perfusion.toml").read_text()
    base = manifest.partition('base = "')[2].partition('"')[0]
    (project.root / "perfusion.toml").write_text(manifest.replace(base, str(nine)))
    (ours,) = run("render", PLAIN, *into, *HOW, "--out", "plain.png").stdout.split()
    pipe = StableDiffusionInpaintPipeline.from_pretrained(nine, safety_checker=None)
    assert same_picture(pixels(ours), stock(pipe, files))
    (teddy,) = run("render", "a teddy* at night", *into, *HOW, "--out", "teddy.png").stdout.split()
    assert np.array_equal(pixels(teddy), pixels(there))
    run("render", "--from", teddy, *into, "--out", "again.png")
    assert np.array_equal(pixels("again.png"), pixels(teddy))
    # What it cannot do.
    for wrong, told in (
        ((), "is made for inpainting: it draws into a picture"),
        (("--image", image), "inpaints, and needs a --mask"),
    ):
        output = " ".join(run("render", "a teddy* at night", *wrong, code=2).output.split())
        assert told in output
        assert "Loading" not in output
    assert "made for inpainting" in run("sweep", "a teddy* at night", code=2).output
    for command in (("lock",), ("build",)):
        output = " ".join(run(*command, code=2).output.split())
        assert "o concept can be trained on this base: it is made for inpainting" in output
        assert "--for BASE --image FILE --mask FILE" in output


def test_a_project_begins_on_it_and_doctor_says_what_it_is_for(
    nine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERF_CACHE_DIR", str(tmp_path / "store"))
    begun = tmp_path / "begun"
    output = run("init", begun, "--base", nine).output
    assert "no concept can be trained on this base" in " ".join(output.split())
    with Workspace.open(begun) as workspace:
        (found,) = [one for one in doctor(workspace).findings if one.what == "training"]
    assert (found.state, "made for inpainting" in found.told) == ("note", True)


def test_it_opens_from_one_file(
    nine: Path,
    tiny_base_folder: Path,
    tmp_path: Path,
    files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = tiny_layout(tiny_base_folder, layouts.LAYOUTS[1])
    monkeypatch.setattr(layouts, "LAYOUTS", (layout,))
    file = save_one_file(nine, layout, tmp_path / "inpainting.safetensors")
    described = describe_base(str(file))
    assert described.draws == ("inpaint",)
    one = load_base(described, "cpu", "float32", "float32")
    wanted = UNet2DConditionModel.from_pretrained(nine / "unet").state_dict()
    found = one.pipe.unet.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    assert one.pipe.unet.config.in_channels == 9


def test_so_does_sdxl_and_a_control_goes_with_it(
    nine: Path, tmp_path: Path, files: tuple[Path, Path]
) -> None:
    xl = save_shallow_sdxl(tmp_path / "xl")
    wide = widened(xl, tmp_path / "wide", StableDiffusionXLInpaintPipeline)
    base = loaded(wide, tmp_path)
    given = RenderOverrides(image=files[0], mask=files[1]).given(base.description)
    assert given.start is not None
    (ours,) = drawn_plainly(base, PLAIN, {}, given.start, seeds=(5,), steps=3, negative_prompt="")
    pipe = StableDiffusionXLInpaintPipeline.from_pretrained(wide, add_watermarker=False)
    assert same_picture(ours, stock(pipe, files, negative_prompt=None))
    plain = UNet2DConditionModel.from_pretrained(nine / "unet")
    narrow = UNet2DConditionModel.from_config({**plain.config, "in_channels": 4})
    save_controlnet(narrow, tmp_path / "canny")
    base = loaded(nine, tmp_path, canny="./canny")
    given = RenderOverrides(image=files[0], mask=files[1], controls={"canny": files[0]}).given(
        base.description
    )
    (ours,) = drawn(base, PLAIN, {}, given, steps=3, negative_prompt="")
    pipe = StableDiffusionControlNetInpaintPipeline.from_pretrained(
        nine, controlnet=ControlNetModel.from_pretrained(tmp_path / "canny"), safety_checker=None
    )
    edges = Image.open(files[0]).convert("RGB")
    call = {"control_image": edges, "controlnet_conditioning_scale": 1.0}
    assert same_picture(ours, stock(pipe, files, **call))
