"""IP-Adapters draw as in diffusers' own pipelines, with concepts and with a ControlNet, and leave the
denoiser as it was."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

import perfusion_registry as perf
from perfusion_registry.base import Base
from perfusion_registry.compose.concept import Concept
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.overrides import RenderOverrides
from tests.base.test_base_options import refusal
from tests.controls import save_controlnet, save_ip_adapter, save_tensors
from tests.render.test_controls import PLAIN, SIZE, called, drawn, loaded, opened
from tests.render.test_controls import files as files
from tests.render.test_other_controls import plain
from tests.render.test_other_controls import xl_folder as xl_folder
from tests.tiny import state_of


@pytest.fixture(scope="module")
def root(tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two IP-Adapters of one image encoder, and a ControlNet."""
    root = tmp_path_factory.mktemp("prompts")
    unet = plain(tiny_base_folder).pipe.unet
    save_ip_adapter(unet, root / "style.safetensors")
    save_ip_adapter(unet, root / "face.safetensors", 1, encoder=False)
    save_controlnet(unet, root / "canny")
    return root


@pytest.fixture(scope="module")
def base(tiny_base_folder: Path, root: Path) -> Base:
    named = {"style": "style.safetensors", "face": "./face.safetensors", "canny": "./canny"}
    return loaded(tiny_base_folder, root, **named)


def stock(base: Base, kind: Any, root: Path, *names: str, **parts: Any) -> Any:
    """A pipeline of diffusers that has loaded the IP-Adapters itself, with a UNet of its own."""
    own = {**base.pipe.components, "unet": copy.deepcopy(base.pipe.unet), **parts}
    alone = {"add_watermarker": False} if "XL" in kind.__name__ else {"requires_safety_checker": False}
    pipe = kind(**own, **alone)
    pipe.load_ip_adapter(
        str(root), subfolder=".", weight_name=[f"{name}.safetensors" for name in names], local_files_only=True
    )
    pipe.scheduler = DDIMScheduler.from_config(base.pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_they_draw_as_their_own_pipelines_and_leave_the_denoiser_alone(
    base: Base, root: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    before, photo, edges = state_of(base), opened(files["photo"]), opened(files["edges"])
    said = RenderOverrides(controls={"style": files["photo"]}, control_strength=0.6)
    given = said.given(base.description)
    assert given.first is None  # its proportions are no matter
    pipe = stock(base, StableDiffusionPipeline, root, "style")
    pipe.set_ip_adapter_scale(0.6)
    (ours,) = drawn(base, PLAIN, {}, given)
    assert np.array_equal(ours, called(pipe, ip_adapter_image=photo, **SIZE))
    (again,) = drawn(base, PLAIN, {}, given)
    assert np.array_equal(again, ours)
    assert state_of(base) == before
    # Two of them, one on a picture, one beside a ControlNet.
    controls = {"style": files["photo"], "face": files["edges"]}
    strengths = {"style": 0.5, "face": 0.8}
    two = RenderOverrides(controls=controls, control_strengths=strengths).given(base.description)
    pipe = stock(base, StableDiffusionPipeline, root, "style", "face")
    pipe.set_ip_adapter_scale([0.5, 0.8])
    (ours,) = drawn(base, PLAIN, {}, two)
    assert np.array_equal(ours, called(pipe, ip_adapter_image=[photo, edges], **SIZE))
    on = RenderOverrides(image=files["edges"], strength=0.7, controls={"style": files["photo"]})
    pipe = stock(base, StableDiffusionImg2ImgPipeline, root, "style")
    (ours,) = drawn(base, PLAIN, {}, on.given(base.description))
    assert np.array_equal(ours, called(pipe, image=edges, strength=0.7, ip_adapter_image=photo))
    controls = {"canny": files["edges"], "style": files["photo"]}
    beside = RenderOverrides(controls=controls, control_strength=0.7).given(base.description)
    net = ControlNetModel.from_pretrained(root / "canny")
    pipe = stock(base, StableDiffusionControlNetPipeline, root, "style", controlnet=net)
    pipe.set_ip_adapter_scale(0.7)
    (ours,) = drawn(base, PLAIN, {}, beside)
    call = {"image": edges, "controlnet_conditioning_scale": 0.7}
    assert np.array_equal(ours, called(pipe, ip_adapter_image=photo, **call, **SIZE))
    assert state_of(base) == before


def test_concepts_are_drawn_beside_them_as_in_a_programs_own_pipeline(
    base: Base, root: Path, concepts: Mapping[str, Concept], files: dict[str, Path]
) -> None:
    before, photo = state_of(base), opened(files["photo"])
    given = RenderOverrides(controls={"style": files["photo"]}).given(base.description)
    prompt = "a hugsy* in a teapot*"  # with a residual, which looks at what is attended to
    (ours,) = drawn(base, prompt, concepts, given)
    both = drawn(base, prompt, concepts, given, seeds=(5, 6), batch=2)
    assert np.abs(both[0].astype(int) - ours).max() <= 1
    pipe = stock(base, StableDiffusionPipeline, root, "style")
    with perf.composed(pipe, prompt, concepts, negative_prompt="blue hat") as call:
        theirs = called(pipe, ip_adapter_image=photo, **SIZE, prompt=None, negative_prompt=None, **call)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert state_of(base) == before
    (without,) = drawn(base, "a teddy in a teapot", {}, given)
    assert np.abs(ours.astype(int) - without).max() > 5


def test_one_of_sdxl(xl_folder: Path, files: dict[str, Path], tmp_path: Path) -> None:
    save_ip_adapter(plain(xl_folder).pipe.unet, tmp_path / "style.safetensors")
    base = loaded(xl_folder, tmp_path, style="style.safetensors")
    given = RenderOverrides(controls={"style": files["photo"]}).given(base.description)
    (ours,) = drawn(base, PLAIN, {}, given)
    pipe = stock(base, StableDiffusionXLPipeline, tmp_path, "style")
    assert np.array_equal(ours, called(pipe, ip_adapter_image=opened(files["photo"]), **SIZE))


def test_they_are_locked_with_their_encoder_and_refused_where_they_do_not_fit(
    base: Base, root: Path, tiny_base_folder: Path, xl_folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    locked = [file.path for file in base.description.files if file.part == "control"]
    assert sorted(path for path in locked if "canny" not in path) == [
        "./face.safetensors",
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
        "style.safetensors",
    ]
    told = {line.partition(",")[0]: line for line in base.description.options.sentences}
    assert "an IP-Adapter, style.safetensors" in told["controls: `style`"]
    error = refusal(xl_folder, root, controls={"style": "style.safetensors"})
    assert "style.safetensors is an IP-Adapter for text of 32 numbers a token, and the base" in error.what
    alone = save_ip_adapter(base.pipe.unet, tmp_path / "style.safetensors", encoder=False)
    error = refusal(tiny_base_folder, tmp_path, controls={"style": alone.name})
    assert "there is no image encoder in" in error.what
    faces = {
        "image_proj.proj.0.weight": base.pipe.unet.conv_in.weight[0],
        "image_proj.norm.weight": base.pipe.unet.conv_in.bias,
    }
    faces["ip_adapter.1.to_k_ip.weight"] = faces["image_proj.proj.0.weight"][0]
    save_tensors(faces, tmp_path / "faceid.safetensors")
    error = refusal(tiny_base_folder, tmp_path, controls={"style": "faceid.safetensors"})
    assert "is a control of another kind or layout" in error.what
    other = tmp_path / "other"
    other.mkdir()
    save_ip_adapter(base.pipe.unet, other / "face.safetensors", 2)
    two = loaded(
        tiny_base_folder,
        tmp_path.parent,
        style=str(root / "style.safetensors"),
        face=str(other / "face.safetensors"),
    )
    controls = {"style": files["photo"], "face": files["photo"]}
    with pytest.raises(PerfError, match="image encoders of two IP-Adapters cannot draw one picture together"):
        RenderOverrides(controls=controls).given(two.description)
