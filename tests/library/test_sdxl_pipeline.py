"""Concepts in somebody's pipeline of SDXL: text, image to image, inpainting, each with a ControlNet too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

import perfusion_registry as perf
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, ConceptPiece, Form, describe_base, load_base, wrap
from perfusion_registry.compose import compose, pack, parse_prompt
from perfusion_registry.compose.concept import Concept
from tests.compose.samples import artifact
from tests.controls import random_controlnet
from tests.library.test_pipeline import (
    EDGES,
    FROM_PHOTO,
    SIZE,
    WITHIN,
    drawn,
    own_unet,
    projecting,
)
from tests.sdxl import save_shallow_sdxl

SIZES = {"original_size": (300, 200), "crops_coords_top_left": (8, 0), "target_size": (64, 64)}
# The class, what its call is given beside the prompt, the channels of its UNet, and the negative prompt.
KINDS: dict[str, tuple[Any, dict[str, Any], int, str]] = {
    "text, told sizes": (StableDiffusionXLPipeline, {**SIZE, **SIZES}, 4, ""),
    "image": (StableDiffusionXLImg2ImgPipeline, FROM_PHOTO, 4, "a hat"),
    "inpaint, nine channels": (StableDiffusionXLInpaintPipeline, WITHIN, 9, ""),
    "control": (StableDiffusionXLControlNetPipeline, {"image": EDGES}, 4, "a hat"),
}


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """SDXL with one layer in each place."""
    described = describe_base(str(save_shallow_sdxl(tmp_path_factory.mktemp("base"))))
    return load_base(described, device="cpu", dtype="float32", compute_dtype="float32")


@pytest.fixture(scope="module")
def concepts(xl: Base) -> dict[str, Concept]:
    made = artifact(xl, "teddy", "teddy", 1, architecture="sdxl", schema_version=2)
    table, ids = xl.embedding_tables[1], xl.tokenise([ConceptPiece("teddy")]).ids[1]
    second = table.weight[ids[1]] + 0.02 * torch.randn(48, generator=torch.Generator().manual_seed(2))
    return {"teddy": Concept(Artifact(made.card, {**made.tensors, "embedding.2": second}), "0" * 64)}


def pipeline(base: Base, kind: str) -> Any:
    """A program's own pipeline, with a UNet of its own."""
    made_of, _, channels, _ = KINDS[kind]
    parts = {**base.pipe.components, "unet": own_unet(base, channels)}
    if "control" in kind:
        parts["controlnet"] = random_controlnet(base.pipe.unet)
    made = made_of(**parts, add_watermarker=False)
    made.scheduler = DDIMScheduler.from_config(base.pipe.scheduler.config)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(
    ("kind", "form"),
    [*((kind, "packed") for kind in KINDS), ("text, told sizes", "thin"), ("control", "thin")],
)
def test_a_pipeline_draws_what_the_composition_says(
    xl: Base, concepts: dict[str, Concept], kind: str, form: Form
) -> None:
    """The stock pipeline with the plain prompt, what each projection gives replaced by hooks."""
    pipe, (_, inputs, _, negative) = pipeline(xl, kind), KINDS[kind]
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    before = [(name, id(module)) for network in networks for name, module in network.named_modules()]
    with perf.composed(pipe, "a teddy* sailing", concepts, negative_prompt=negative, form=form) as call:
        picture = drawn(pipe, call, **inputs)
    after = [(name, id(module)) for network in networks for name, module in network.named_modules()]
    assert after == before

    base = wrap(pipe)
    composition = compose(parse_prompt("a teddy* sailing"), concepts, base)
    artifacts = {"teddy": concepts["teddy"].artifact}
    states = pack(
        base, composition, artifacts, [parse_prompt(negative), composition.parsed]
    ).states  # (2, n, D)
    if not negative:
        states[0] = 0
    rows = {}
    for layer in base.bank.layers:
        rows[f"{layer.path}.to_k"] = states[..., layer.key_slice]
        rows[f"{layer.path}.to_v"] = states[..., layer.value_slice]
    plain = {"prompt": "a teddy sailing", "negative_prompt": negative or None}
    with projecting(pipe, rows):
        assert np.abs(picture - drawn(pipe, plain, **inputs)).max() < 1e-3
    assert np.abs(picture - drawn(pipe, plain, **inputs)).max() > 0.02


def test_a_prompt_without_concepts_is_the_untouched_pipeline(xl: Base) -> None:
    pipe = pipeline(xl, "text, told sizes")
    with perf.composed(pipe, "a boat on the sea", {}) as call:
        assert call == {"prompt": ["a boat on the sea"], "negative_prompt": None}
        picture = drawn(pipe, call, **SIZE)
    np.testing.assert_array_equal(picture, drawn(pipe, {"prompt": "a boat on the sea"}, **SIZE))


@pytest.mark.parametrize("kind", ["image", "inpaint"])
def test_a_base_gives_each_of_its_pipelines(xl: Base, kind: str) -> None:
    made_of, inputs = {"image": KINDS["image"][:2], "inpaint": (StableDiffusionXLInpaintPipeline, WITHIN)}[
        kind
    ]
    pipe = xl.pipeline(kind, scheduler="DDIMScheduler")
    assert type(pipe) is made_of
    stock = made_of(**xl.pipe.components, add_watermarker=False)
    stock.scheduler = DDIMScheduler.from_config(xl.pipe.scheduler.config)
    stock.set_progress_bar_config(disable=True)
    plain = {"prompt": "a boat"}
    np.testing.assert_array_equal(drawn(pipe, plain, **inputs), drawn(stock, plain, **inputs))
