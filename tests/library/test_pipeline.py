"""Concepts in somebody's pipeline: text, image to image, inpainting."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig
from PIL import Image

import perfusion_registry as perf
from perfusion_registry.base import Base, Form, wrap
from perfusion_registry.compose import compose, pack, parse_prompt
from tests.controls import random_controlnet
from tests.lora_files import save_lora

PROMPT = "a teddy* sailing in a teapot*"
PHOTO = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
MASK = Image.fromarray(np.pad(np.full((32, 40), 255, np.uint8), ((16, 16), (12, 12))))
EDGES = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
SIZE = {"width": 64, "height": 64}
FROM_PHOTO = {"image": PHOTO, "strength": 0.8}
WITHIN = {"image": PHOTO, "mask_image": MASK, "strength": 0.9, **SIZE}
# The class, what its call is given beside the prompt, and the channels that its UNet takes.
KINDS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "text": (StableDiffusionPipeline, SIZE, 4),
    "image": (StableDiffusionImg2ImgPipeline, FROM_PHOTO, 4),
    "inpaint": (StableDiffusionInpaintPipeline, WITHIN, 4),
    "inpaint, nine channels": (StableDiffusionInpaintPipeline, WITHIN, 9),
    "control": (StableDiffusionControlNetPipeline, {"image": EDGES}, 4),
    "control, image": (StableDiffusionControlNetImg2ImgPipeline, {**FROM_PHOTO, "control_image": EDGES}, 4),
    "control, inpaint": (StableDiffusionControlNetInpaintPipeline, {**WITHIN, "control_image": EDGES}, 4),
    "two controls": (StableDiffusionControlNetPipeline, {"image": [EDGES, PHOTO]}, 4),
}


def own_unet(base: Base, channels: int) -> UNet2DConditionModel:
    """A copy of the base's UNet, which takes as many channels, all of which matter."""
    unet: UNet2DConditionModel = copy.deepcopy(base.pipe.unet)
    if channels != 4:
        wide = UNet2DConditionModel.from_config({**unet.config, "in_channels": channels})
        kept = unet.state_dict()
        more = torch.randn(wide.conv_in.weight[:, 4:].shape, generator=torch.Generator().manual_seed(0))
        own = kept["conv_in.weight"]
        kept["conv_in.weight"] = torch.cat([own, more * own.std()], 1)
        wide.load_state_dict(kept)
        unet = wide.eval().requires_grad_(False)
    return unet


def pipeline(base: Base, kind: str = "text") -> Any:
    """A program's own pipeline, with a UNet of its own."""
    made_of, _, channels = KINDS[kind]
    parts = {**base.pipe.components, "unet": own_unet(base, channels)}
    if "control" in kind:
        nets = [random_controlnet(base.pipe.unet, seed) for seed in range(2 if "two" in kind else 1)]
        parts["controlnet"] = nets if len(nets) > 1 else nets[0]
    made = made_of(**parts, requires_safety_checker=False)
    made.scheduler = DDIMScheduler.from_config(base.pipe.scheduler.config)
    made.set_progress_bar_config(disable=True)
    return made


def drawn(pipe: Any, call: dict[str, Any], **inputs: Any) -> np.ndarray:
    settings = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "np"}
    generator = torch.Generator("cpu").manual_seed(5)
    return np.asarray(pipe(**settings, **call, **inputs, generator=generator).images)


@contextmanager
def projecting(pipe: Any, rows: dict[str, torch.Tensor]) -> Iterator[None]:
    """What each K and V projection gives is replaced by hooks: a reference without stand-ins."""

    def hook(emitted: torch.Tensor) -> Any:
        return lambda module, inputs, output: emitted.to(output)

    handles = [pipe.unet.get_submodule(path).register_forward_hook(hook(row)) for path, row in rows.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(
    ("kind", "form"),
    [*((kind, "packed") for kind in KINDS), ("text", "thin"), ("two controls", "thin")],
)
def test_a_pipeline_draws_what_the_composition_says(
    tiny_base: Base, place: Path, kind: str, form: Form
) -> None:
    """One concept without a residual, so that the projections are all that there is to replace."""
    pipe, inputs = pipeline(tiny_base, kind), KINDS[kind][1]
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    before = [(name, id(module)) for network in networks for name, module in network.named_modules()]
    concepts = perf.load_concepts(pipe, place / "teddy.safetensors")
    with perf.composed(pipe, "a teddy* sailing", concepts, negative_prompt="a hat", form=form) as call:
        picture = drawn(pipe, call, **inputs)
        pair = drawn(pipe, call, **inputs, num_images_per_prompt=2)
    after = [(name, id(module)) for network in networks for name, module in network.named_modules()]
    assert after == before

    base = wrap(pipe)
    composition = compose(parse_prompt("a teddy* sailing"), concepts, base)
    artifacts = {"teddy": concepts["teddy"].artifact}
    states = pack(
        base, composition, artifacts, [parse_prompt("a hat"), composition.parsed]
    ).states  # (2, n, D)
    rows = {}
    for layer in base.bank.layers:
        rows[f"{layer.path}.to_k"] = states[..., layer.key_slice]
        rows[f"{layer.path}.to_v"] = states[..., layer.value_slice]
    plain = {"prompt": "a teddy sailing", "negative_prompt": "a hat"}
    with projecting(pipe, rows):
        difference = np.abs(picture - drawn(pipe, plain, **inputs)).max()
        assert difference < 1e-3
    assert np.abs(picture - drawn(pipe, plain, **inputs)).max() > 0.02
    assert pair.shape == (2, 64, 64, 3)


def test_a_lora_that_is_not_merged_draws_as_one_that_is(tiny_base: Base, place: Path, tmp_path: Path) -> None:
    """Its scale can be said in the call, and it stays the program's own."""
    pipe, prompt = pipeline(tiny_base), "a teddy* sailing"
    file = save_lora(pipe, tmp_path / "lora.safetensors", parts=("to_q", "to_k", "to_v"), text=False)
    plain = drawn(pipe, {"prompt": "a teddy sailing"}, **SIZE)
    pipe.load_lora_weights(str(file), adapter_name="own")
    concepts = perf.load_concepts(pipe, place / "teddy.safetensors")
    with perf.composed(pipe, prompt, concepts) as call:
        ours = drawn(pipe, call, **SIZE)
        weaker = drawn(pipe, call, **SIZE, cross_attention_kwargs={"scale": 0.3})
    with pytest.raises(perf.PerfError, match="`to_k` is a Linear of peft, not a plain linear layer") as told:
        perf.composed(pipe, prompt, concepts, form="packed").__enter__()
    assert "fuse_lora" in str(told.value.hint)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    with perf.composed(pipe, prompt, concepts) as call:
        merged = drawn(pipe, call, **SIZE)
    assert np.abs(ours - merged).max() < 1e-3
    assert np.abs(ours - weaker).max() > 0.02
    assert np.abs(ours - plain).max() > 0.02


def test_a_form_that_there_is_not_is_no_other_one(tiny_base: Base, place: Path) -> None:
    pipe = pipeline(tiny_base)
    with pytest.raises(perf.PerfError, match="no form 'slim'") as told:
        perf.composed(pipe, "a teddy*", place / "teddy.safetensors", form="slim").__enter__()  # type: ignore[arg-type]
    assert told.value.where == "form"


def test_a_lora_of_the_text_encoder_is_to_be_merged_first(tiny_base: Base) -> None:
    pipe = pipeline(tiny_base)
    pipe.text_encoder = copy.deepcopy(pipe.text_encoder)
    pipe.text_encoder.add_adapter(LoraConfig(r=1, target_modules=["q_proj"]))
    with pytest.raises(perf.PerfError, match="`text_encoder` has a LoRA that is not merged") as caught:
        wrap(pipe)
    assert "fuse_lora" in str(caught.value.hint)


def test_it_draws_as_the_composer_does_with_residuals_too(
    tiny_base: Base, project: perf.Project, place: Path
) -> None:
    pipe = pipeline(tiny_base)
    composer = perf.Composer(project.workspace, tiny_base)
    gates = {"teddy": perf.Gate(bias=0.5)}
    (expected,) = composer.render(
        PROMPT, seeds=[5], steps=3, guidance=2.0, gates=gates, scheduler="ddim", negative_prompt="a hat"
    )
    sources: dict[str, Any] = {
        "files": [place / "teddy.safetensors", str(place / "teapot.safetensors")],
        "lockfile": "tea-party",
        "releases": ["teddy", "teapot>=1,<2"],
    }
    for kind, given in sources.items():
        named = {"registry": str(place / "gallery")} if kind == "releases" else {}
        with perf.composed(pipe, PROMPT, given, gates=gates, negative_prompt="a hat", **named) as call:
            picture = drawn(pipe, call, width=64, height=64)[0]
        off = np.abs(np.round(picture * 255) - np.asarray(expected.image).astype(float)).max()
        assert off <= 1, kind


def test_a_prompt_without_concepts_is_the_untouched_pipeline(tiny_base: Base, place: Path) -> None:
    pipe = pipeline(tiny_base)
    with perf.composed(pipe, r"a boat \* on the sea", {}) as call:
        assert call == {"prompt": ["a boat * on the sea"], "negative_prompt": [""]}


def test_mistakes_are_errors_of_the_library(tiny_base: Base, place: Path) -> None:
    pipe = pipeline(tiny_base)
    concepts = perf.load_concepts(pipe, place / "teddy.safetensors")
    gallery = str(place / "gallery")
    for what, mistake in {
        "there is no concept 'cat' here": lambda: perf.composed(pipe, "a cat*", concepts).__enter__(),
        "cannot call a concept": lambda: perf.composed(
            pipe, "a teddy*", concepts, negative_prompt="a teddy*"
        ).__enter__(),
        "a bias should be": lambda: perf.composed(
            pipe, "a teddy*", concepts, gates=perf.Gate(bias=9)
        ).__enter__(),
        "two sources have a concept 'teddy'": lambda: perf.load_concepts(
            pipe, place / "teddy.safetensors", "teddy", registry=gallery
        ),
        "is not a source of concepts": lambda: perf.load_concepts(pipe, "http:/teddy"),
        "not a version constraint": lambda: perf.load_concepts(pipe, "teddy>=one", registry=gallery),
        "no release of 'teddy>=2' can be taken": lambda: perf.load_concepts(
            pipe, "teddy>=2", registry=gallery
        ),
        "there is no concept 'cat' in": lambda: perf.load_concepts(pipe, "cat", registry=gallery),
        "cannot be read|no artifact|does not exist": lambda: perf.load_concepts(pipe, "cat.safetensors"),
        "the lockfile cannot be read": lambda: perf.load_concepts(pipe, place / "none.lock"),
        "a SimpleNamespace cannot carry concepts|cannot carry": lambda: perf.load_concepts(
            object(), "a.lock"
        ),
        "is not signed": lambda: perf.load_concepts(pipe, "teddy", registry=gallery, require_signed=True),
    }.items():
        with pytest.raises(perf.PerfError, match=what):
            mistake()

    other = pipeline(tiny_base)
    other.text_encoder = copy.deepcopy(other.text_encoder)
    with torch.no_grad():
        other.text_encoder.get_input_embeddings().weight.mul_(1.5)
    with (
        pytest.raises(perf.PerfError, match="is of another family"),
        perf.composed(other, "a teddy*", concepts),
    ):
        pass
    with (
        pytest.raises(perf.PerfError, match="no release of 'teddy' can be taken"),
        perf.composed(other, "a teddy*", "teddy", registry=gallery),
    ):
        pass


def test_one_thread_at_a_time(tiny_base: Base, place: Path) -> None:
    pipe = pipeline(tiny_base)
    concepts = perf.load_concepts(pipe, "tea-party/../teddy.safetensors", "teapot.safetensors")
    drawing, done = Event(), Event()
    pictures = {}

    def other() -> None:
        drawing.wait(60)
        with perf.composed(pipe, "a teapot*", concepts) as call:
            pictures["other"] = drawn(pipe, call, width=64, height=64)
        done.set()

    thread = Thread(target=other)
    thread.start()
    with perf.composed(pipe, "a teddy*", concepts) as call:
        drawing.set()
        pictures["own"] = drawn(pipe, call, width=64, height=64)
        assert not done.is_set()
        with (
            pytest.raises(perf.PerfError, match="in use already, further up in the same thread"),
            perf.composed(pipe, "a teapot*", concepts),
        ):
            pass
        with pytest.raises(perf.PerfError, match="what it was called with is another prompt"):
            drawn(pipe, {"prompt": "a boat"}, width=64, height=64)
    thread.join(60)
    assert done.is_set()
    for prompt, name in (("a teddy*", "own"), ("a teapot*", "other")):
        with perf.composed(pipe, prompt, concepts) as call:
            np.testing.assert_array_equal(drawn(pipe, call, width=64, height=64), pictures[name])


def test_an_error_inside_leaves_the_pipeline_as_it_was(tiny_base: Base, place: Path) -> None:
    pipe = pipeline(tiny_base)
    plain = drawn(pipe, {"prompt": "a boat"}, width=64, height=64)
    with pytest.raises(KeyError), perf.composed(pipe, "a teddy*", place / "teddy.safetensors"):
        raise KeyError
    np.testing.assert_array_equal(drawn(pipe, {"prompt": "a boat"}, width=64, height=64), plain)
