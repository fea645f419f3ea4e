"""T2I-Adapters and ControlNet-Unions draw as diffusers' own pipelines do, with concepts too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetUnionModel,
    DDIMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLControlNetUnionImg2ImgPipeline,
    StableDiffusionXLControlNetUnionInpaintPipeline,
    StableDiffusionXLControlNetUnionPipeline,
    T2IAdapter,
)
from PIL import Image

import perfusion_registry as perf
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.base.controls import networks
from perfusion_registry.compose.concept import Concept
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.given import Given
from perfusion_registry.operations.overrides import RenderOverrides
from tests.controls import random_adapter, random_union, save_tensors
from tests.render.test_controls import PLAIN, SIZE, called, drawn, loaded, opened
from tests.render.test_controls import files as files
from tests.sdxl import save_shallow_sdxl
from tests.tiny import same_picture


@pytest.fixture(scope="module")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_shallow_sdxl(tmp_path_factory.mktemp("sdxl") / "base")


def plain(folder: Path) -> Base:
    return load_base(describe_base(str(folder)), "cpu", "float32", "float32")


def given(base: Base, files: dict[str, Path], strength: float | None = None, **named: str) -> Given:
    controls = {name: files[file] for name, file in named.items()}
    return RenderOverrides(controls=controls, control_strength=strength).given(base.description)


def stock(base: Base, kind: Any, **parts: Any) -> Any:
    alone = {"add_watermarker": False} if "ControlNetUnion" in kind.__name__ else {}
    alone |= {} if "XL" in kind.__name__ else {"requires_safety_checker": False, "safety_checker": None}
    own = {name: part for name, part in base.pipe.components.items() if name not in alone}
    if "XL" not in kind.__name__:
        own.pop("image_encoder", None)
    pipe = kind(**own, **parts, **alone)
    pipe.scheduler = DDIMScheduler.from_config(base.pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_an_adapter_draws_as_its_own_pipeline(
    tiny_base: Base,
    tiny_base_folder: Path,
    concepts: Mapping[str, Concept],
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    unet = tiny_base.pipe.unet
    for name, more in (("canny", {"picture": 1}), ("depth", {}), ("color", {"kind": "light_adapter"})):
        random_adapter(unet, **more).save_pretrained(tmp_path / name)  # type: ignore[arg-type]
    base = loaded(tiny_base_folder, tmp_path, canny="./canny", depth="./depth", color="./color")
    for name in ("canny", "depth", "color"):
        edges = opened(files["edges"]).convert("L" if name == "canny" else "RGB")
        adapter = T2IAdapter.from_pretrained(tmp_path / name)
        pipe = stock(base, StableDiffusionAdapterPipeline, adapter=adapter)
        (ours,) = drawn(base, PLAIN, {}, given(base, files, 0.5, **{name: "edges"}))
        theirs = called(pipe, image=edges, adapter_conditioning_scale=0.5, **SIZE)
        assert same_picture(ours, theirs), name
    # Two adapters, and two pictures at once.
    nets = [T2IAdapter.from_pretrained(tmp_path / name) for name in ("canny", "depth")]
    pipe = stock(base, StableDiffusionAdapterPipeline, adapter=nets)
    images = [opened(files["edges"]).convert("L"), opened(files["depth"])]
    both = given(base, files, 0.5, canny="edges", depth="depth")
    ours, other = drawn(base, PLAIN, {}, both, seeds=(5, 6), batch=2)
    theirs = called(pipe, image=images, adapter_conditioning_scale=[0.5, 0.5], **SIZE)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert not np.array_equal(ours, other)
    # Concepts with a residual, as in a program's own pipeline.
    pipe = stock(base, StableDiffusionAdapterPipeline, adapter=nets[1])
    prompt, one = "a hugsy* in a teapot*", given(base, files, depth="depth")
    (ours,) = drawn(base, prompt, concepts, one)
    with perf.composed(pipe, prompt, concepts, negative_prompt="blue hat") as said:
        theirs = called(pipe, image=images[1], **SIZE, prompt=None, negative_prompt=None, **said)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    (without,) = drawn(base, "a teddy in a teapot", {}, one)
    assert np.abs(ours.astype(int) - without).max() > 5
    photo = RenderOverrides(image=files["photo"], controls={"depth": files["depth"]})
    with pytest.raises(PerfError, match="no pipeline for it with an image"):
        photo.given(base.description)


def test_an_adapter_of_sdxl_in_a_folder_and_in_one_file(
    xl_folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    unet = plain(xl_folder).pipe.unet
    adapter = random_adapter(unet)
    adapter.save_pretrained(tmp_path / "folder")
    save_tensors(adapter.state_dict(), tmp_path / "depth.safetensors")
    base = loaded(xl_folder, tmp_path, depth="depth.safetensors", same="./folder")
    pipe = stock(base, StableDiffusionXLAdapterPipeline, adapter=adapter)
    theirs = called(pipe, image=opened(files["edges"]), adapter_conditioning_scale=0.7, **SIZE)
    for name in ("depth", "same"):
        (ours,) = drawn(base, PLAIN, {}, given(base, files, 0.7, **{name: "edges"}))
        assert same_picture(ours, theirs)
    with pytest.raises(PerfError, match="multiples of 16") as caught:
        drawn(base, PLAIN, {}, given(base, files, depth="edges"), width=104)
    assert "the nearest is 96x64" in str(caught.value.hint)


def test_one_union_reads_pictures_of_several_kinds(
    xl_folder: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    union = random_union(plain(xl_folder).pipe.unet)
    union.save_pretrained(tmp_path / "union")
    save_tensors(union.state_dict(), tmp_path / "union.safetensors")
    base = loaded(
        xl_folder, tmp_path, **{"canny": "./union", "depth": "./union", "tile-2": "union.safetensors"}
    )
    parts = base.description.options.controls
    assert [(one.name, one.mode) for one in parts] == [("canny", 3), ("depth", 1), ("tile-2", 6)]
    locked = [file.path for file in base.description.files if file.part]
    assert len(locked) == len(set(locked)) == 3
    one, other, third = networks(base, parts)
    assert one is other
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), third.parameters(), strict=True))
    net = ControlNetUnionModel.from_pretrained(tmp_path / "union")
    edges, depth, photo = (opened(files[name]) for name in ("edges", "depth", "photo"))
    said = {"control_image": [edges, depth], "control_mode": [3, 1], **SIZE}
    said["controlnet_conditioning_scale"] = [0.8, 0.8]
    named = {"canny": files["edges"], "depth": files["depth"]}
    more = {"image": files["photo"], "strength": 0.7}
    for kind, start, call in (
        (StableDiffusionXLControlNetUnionPipeline, {}, {}),
        (StableDiffusionXLControlNetUnionImg2ImgPipeline, more, {"image": photo, "strength": 0.7}),
        (
            StableDiffusionXLControlNetUnionInpaintPipeline,
            {**more, "mask": files["mask"]},
            {"image": photo, "strength": 0.7, "mask_image": Image.open(files["mask"])},
        ),
    ):
        asked = RenderOverrides(**start, controls=named, control_strength=0.8)  # type: ignore[arg-type]
        (ours,) = drawn(base, PLAIN, {}, asked.given(base.description))
        assert same_picture(ours, called(stock(base, kind, controlnet=net), **said, **call)), kind
    alone = drawn(base, PLAIN, {}, given(base, files, canny="edges"))[0]
    assert not np.array_equal(alone, drawn(base, PLAIN, {}, given(base, files, depth="edges"))[0])
    with pytest.raises(PerfError, match="networks of two ControlNet-Unions cannot"):
        drawn(base, PLAIN, {}, given(base, files, canny="edges", **{"tile-2": "depth"}))
