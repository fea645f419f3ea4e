"""Drawing under control of a picture: as diffusers' own pipelines do it, with concepts beside the control."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
)
from PIL import Image

import perfusion_registry as perf
from perfusion_registry.base import Base, SaidOfBase, describe_base, load_base
from perfusion_registry.base.controls import networks
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.operations.given import Given
from perfusion_registry.operations.overrides import RenderOverrides
from perfusion_registry.recipe.base_section import BaseSection
from perfusion_registry.render.draw import render
from perfusion_registry.render.request import RenderRequest
from tests.compose.samples import on
from tests.controls import compvis, random_controlnet, save_controlnet, save_tensors
from tests.library.test_pipeline import projecting
from tests.sdxl import save_shallow_sdxl
from tests.tiny import same_picture

PLAIN = "a red hat in the snow"
SIZE = {"width": 96, "height": 64}


def loaded(folder: Path, root: Path, **controls: str) -> Base:
    said = SaidOfBase(BaseSection(controls=controls), root, "perfusion.toml")
    return load_base(describe_base(str(folder), said=said), "cpu", "float32", "float32")


@pytest.fixture(scope="module")
def controlled(tiny_base: Base, tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """The tiny base with two ControlNets."""
    root = tmp_path_factory.mktemp("project")
    for seed, name in enumerate(("canny", "depth")):
        save_controlnet(tiny_base.pipe.unet, root / name, seed)
    return loaded(tiny_base_folder, root, canny="./canny", depth="./depth")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """SDXL with one layer in each place, and a ControlNet."""
    root = tmp_path_factory.mktemp("sdxl")
    folder = save_shallow_sdxl(root / "base")
    plain = load_base(describe_base(str(folder)), "cpu", "float32", "float32")
    save_controlnet(plain.pipe.unet, root / "canny")
    return loaded(folder, root, canny="./canny")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Pictures of 96 x 64: a photo, a mask whose right half is white, edges and a depth map."""
    rng = np.random.default_rng(0)
    halves = np.zeros((64, 96), np.uint8)
    halves[:, 48:] = 255
    pixels = {name: rng.integers(0, 256, (64, 96, 3), np.uint8) for name in ("photo", "edges", "depth")}
    for name, values in {**pixels, "mask": halves}.items():
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    return {name: tmp_path / f"{name}.png" for name in (*pixels, "mask")}


def drawn(
    base: Base, prompt: str, concepts: Mapping[str, Concept], given: Given, **values: object
) -> list[np.ndarray]:
    said = {**SIZE, "steps": 3, "guidance": 3.0, "negative_prompt": "blue hat", "seeds": (5,)}
    request = RenderRequest.model_validate(said | given.said | values)
    composition = compose(parse_prompt(prompt), concepts, base)
    pictures = render(*(base, composition, request, on(concepts)), start=given.start, controls=given.controls)
    return [np.asarray(one.image) for one in pictures]


def stock(base: Base, kind: Any, names: tuple[str, ...]) -> Any:
    """A pipeline of diffusers with the ControlNets as it reads them itself."""
    places = {one.name: one.part.place for one in base.description.options.controls}
    nets = [ControlNetModel.from_pretrained(places[name]) for name in names]
    alone = {"add_watermarker": False} if "XL" in kind.__name__ else {"requires_safety_checker": False}
    pipe = kind(**base.pipe.components, controlnet=nets if len(nets) > 1 else nets[0], **alone)
    pipe.scheduler = DDIMScheduler.from_config(base.pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def called(pipe: Any, **inputs: object) -> np.ndarray:
    generator = torch.Generator("cpu").manual_seed(5)
    usual = {"prompt": PLAIN, "negative_prompt": "blue hat", "num_inference_steps": 3, "guidance_scale": 3.0}
    return np.asarray(pipe(**usual | inputs, generator=generator).images[0])


def opened(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


# The stock class, the files that a command is given, its controls and their strengths, and the stock call.
KINDS: dict[str, tuple[Any, Any, tuple[str, ...], dict[str, Any]]] = {
    "text": (StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline, (), {}),
    "image": (
        StableDiffusionControlNetImg2ImgPipeline,
        StableDiffusionXLControlNetImg2ImgPipeline,
        ("image",),
        {"strength": 0.7},
    ),
    "inpaint": (
        StableDiffusionControlNetInpaintPipeline,
        StableDiffusionXLControlNetInpaintPipeline,
        ("image", "mask"),
        {"strength": 0.9},
    ),
}


def of_kind(base: Base, kind: str, files: dict[str, Path]) -> tuple[Given, dict[str, Any]]:
    """What is given, and the stock call of it."""
    _, _, starts, more = KINDS[kind]
    said = {"image": files["photo"]} if starts else {}
    said |= {"mask": files["mask"]} if "mask" in starts else {}
    controls = {"canny": files["edges"]}
    overrides = RenderOverrides(**said, **more, controls=controls, control_strength=0.6)
    given = overrides.given(base.description)
    edges = opened(files["edges"])
    call: dict[str, Any] = {"controlnet_conditioning_scale": 0.6, **more, **SIZE}
    if kind == "text":
        return given, call | {"image": edges}
    call |= {"image": opened(files["photo"]), "control_image": edges}
    if kind == "inpaint":
        call["mask_image"] = Image.open(files["mask"])
    return given, call


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_without_concepts_is_the_stock_pipeline(
    controlled: Base, files: dict[str, Path], kind: str
) -> None:
    given, call = of_kind(controlled, kind, files)
    theirs = called(stock(controlled, KINDS[kind][0], ("canny",)), **call)
    (ours,) = drawn(controlled, PLAIN, {}, given)
    assert same_picture(ours, theirs)
    less = RenderOverrides(controls={"canny": files["edges"]}, control_strength=0.1)
    weaker = less.given(controlled.description)
    if kind == "text":
        (other,) = drawn(controlled, PLAIN, {}, weaker)
        assert np.abs(ours.astype(int) - other).max() > 2
        both = drawn(controlled, PLAIN, {}, given, seeds=(5, 6), batch=2)
        assert np.abs(both[0].astype(int) - ours).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_is_of_sdxl(xl: Base, files: dict[str, Path], kind: str) -> None:
    given, call = of_kind(xl, kind, files)
    (ours,) = drawn(xl, PLAIN, {}, given)
    assert same_picture(ours, called(stock(xl, KINDS[kind][1], ("canny",)), **call))


def test_two_controls_draw_together(controlled: Base, files: dict[str, Path]) -> None:
    controls = {"canny": files["edges"], "depth": files["depth"]}
    given = RenderOverrides(controls=controls, control_strengths={"depth": 0.5}).given(controlled.description)
    (ours,) = drawn(controlled, PLAIN, {}, given)
    pipe = stock(controlled, StableDiffusionControlNetPipeline, ("canny", "depth"))
    images = [opened(files["edges"]), opened(files["depth"])]
    assert same_picture(ours, called(pipe, image=images, controlnet_conditioning_scale=[1.0, 0.5], **SIZE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_concept_is_drawn_as_by_hand_and_the_control_reads_its_supercategory(
    controlled: Base, concepts: Mapping[str, Concept], files: dict[str, Path], kind: str
) -> None:
    """The stock pipeline with the plain prompt, what each projection of the UNet gives replaced by hooks."""
    prompt, given, call = "a teddy* sailing", *of_kind(controlled, kind, files)
    teddy = {"teddy": concepts["teddy"]}
    (ours,) = drawn(controlled, prompt, teddy, given)
    composition = compose(parse_prompt(prompt), teddy, controlled)
    states = pack(
        controlled, composition, on(teddy), [parse_prompt("blue hat"), parse_prompt(prompt)]
    ).states  # (2, n, D)
    rows = {}
    for layer in controlled.bank.layers:
        rows[f"{layer.path}.to_k"] = states[..., layer.key_slice]
        rows[f"{layer.path}.to_v"] = states[..., layer.value_slice]
    pipe = stock(controlled, KINDS[kind][0], ("canny",))
    plain = {"prompt": f"a {teddy['teddy'].artifact.card.supercategory} sailing"}
    with projecting(pipe, rows):
        by_hand = called(pipe, **call, **plain)
    assert np.abs(ours.astype(int) - by_hand).max() <= 1
    assert np.abs(ours.astype(int) - called(pipe, **call, **plain)).max() > 5


def test_concepts_with_residuals_are_drawn_as_in_a_programs_own_pipeline(
    controlled: Base, concepts: Mapping[str, Concept], files: dict[str, Path]
) -> None:
    prompt, given, call = "a teddy* in a teapot*", *of_kind(controlled, "text", files)
    before = [(name, id(module)) for name, module in controlled.pipe.unet.named_modules()]
    (ours,) = drawn(controlled, prompt, concepts, given)
    parts = controlled.description.options.controls[:1]
    (net,) = networks(controlled, parts)
    assert [(name, id(module)) for name, module in controlled.pipe.unet.named_modules()] == before
    assert not any("Columns" in type(module).__name__ for module in net.modules())
    pipe = stock(controlled, StableDiffusionControlNetPipeline, ("canny",))
    with perf.composed(pipe, prompt, concepts, negative_prompt="blue hat") as said:
        theirs = called(pipe, **call, prompt=None, negative_prompt=None, **said)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_one_file_is_the_folder_that_diffusers_has_of_it(
    tiny_base: Base, tiny_base_folder: Path, xl: Base, tmp_path: Path
) -> None:
    for base, folder in ((tiny_base, tiny_base_folder), (xl, Path(xl.description.repo))):
        net = random_controlnet(base.pipe.unet, 3)
        net.save_pretrained(tmp_path / "folder")
        copy.deepcopy(net).half().save_pretrained(tmp_path / "half", variant="fp16")
        named = compvis(net)
        save_tensors(named, tmp_path / "plain.safetensors")
        save_tensors(named, tmp_path / "within.safetensors", "control_model.")
        save_tensors(net.state_dict(), tmp_path / "diffusers.safetensors")
        wanted = ControlNetModel.from_pretrained(tmp_path / "folder").state_dict()
        files = {name: f"{name}.safetensors" for name in ("plain", "within", "diffusers")}
        one = loaded(folder, tmp_path, whole="./folder", half="./half", **files)
        assert one.description.family == base.description.family
        parts = one.description.options.controls
        assert [part.name for part in parts] == ["diffusers", "half", "plain", "whole", "within"]
        for part, read in zip(parts, networks(one, parts), strict=True):
            found = read.state_dict()
            assert found.keys() == wanted.keys(), part.name
            for name, tensor in found.items():
                same = torch.equal(tensor, wanted[name])
                assert same or (part.name == "half" and torch.allclose(tensor, wanted[name], atol=1e-2)), name
            assert not any(parameter.requires_grad for parameter in read.parameters())
            assert networks(one, [part])[0] is read
