"""Concepts in a live pipeline of an architecture that another distribution brings."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import SanaPipeline

import perfusion_registry as perf
from perfusion_registry.base import Base, describe_base, load_base, wrap
from perfusion_registry.base.architectures import ENTRY_POINTS
from perfusion_registry.build import ConceptSources, build_concept, estimate_covariance
from perfusion_registry.compose import compose, pack, parse_prompt
from perfusion_registry.compose.concept import Concept
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from tests.distribution import install
from tests.library.test_pipeline import PHOTO, SIZE, drawn
from tests.second_architecture import ImagePipeline, TextPipeline, save_second_base

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "text": (TextPipeline, SIZE),
    "image": (ImagePipeline, {"image": PHOTO, "strength": 0.7}),
}
PROMPT = "a teddy* sailing"
TRAIN = TrainOptions(
    steps=2, batch=2, validate_every=2, validation_steps=1, validation_prompts=("a {} in the snow",),
    learning_rate_output=1.0, learning_rate_embedding=0.1, mask="none",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    folder = tmp_path_factory.mktemp("second")
    with pytest.MonkeyPatch.context() as patch:
        named = {"sana-with-two-encoders": "tests.second_architecture:ARCHITECTURE"}
        install(folder / "site", "perf-sana", "perf_sana", "", named, group=ENTRY_POINTS)
        patch.syspath_prepend(folder / "site")
        described = describe_base(str(save_second_base(folder / "base")))
        yield load_base(described, device="cpu", dtype="float32", compute_dtype="float32")
    sys.modules.pop("perf_sana", None)


@pytest.fixture(scope="module")
def concepts(base: Base, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Concept]:
    file: Path = tmp_path_factory.mktemp("photos") / "1.png"
    PHOTO.save(file)
    covariance = estimate_covariance(base, ["a photo of a teddy", "a red boat at sea", "a cat"] * 20)
    sources = ConceptSources("teddy", "1.0.0", "teddy", (file,))
    built = build_concept(base, covariance, sources, TRAIN, RenderOptions(), digest="ab" * 32)
    return {"teddy": Concept(built, "0" * 64)}


def pipeline(base: Base, kind: str) -> Any:
    """A program's own pipeline, with a transformer of its own."""
    parts = {**base.pipe.components, "transformer": copy.deepcopy(base.pipe.transformer)}
    made = KINDS[kind][0](**parts)
    made.scheduler = type(made.scheduler).from_config(made.scheduler.config)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("negative", ["", "a hat"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_draws_what_the_composition_says(
    base: Base, concepts: dict[str, Concept], kind: str, negative: str
) -> None:
    """The stock pipeline with the plain prompt, what each projection gives replaced by hooks."""
    pipe, inputs = pipeline(base, kind), KINDS[kind][1]
    before = [(name, id(module)) for name, module in pipe.transformer.named_modules()]
    with perf.composed(pipe, PROMPT, concepts, negative_prompt=negative) as call:
        picture = drawn(pipe, call, **inputs)
    assert [(name, id(module)) for name, module in pipe.transformer.named_modules()] == before

    live = wrap(pipe)
    assert live.description.family == base.description.family
    composition = compose(parse_prompt(PROMPT), concepts, live)
    artifacts = {"teddy": concepts["teddy"].artifact}
    states = pack(
        live, composition, artifacts, [parse_prompt(negative), composition.parsed]
    ).states  # (2, n, D)
    plain = live.plain_inputs(["a teddy sailing"], [negative])
    unedited = drawn(pipe, plain, **inputs)
    handles = []
    for layer in live.bank.layers:
        attention = pipe.transformer.get_submodule(layer.path)
        for linear, columns in ((attention.to_k, layer.key_slice), (attention.to_v, layer.value_slice)):
            row = states[..., columns] + linear.bias
            handles.append(linear.register_forward_hook(lambda *_, row=row: row))
    expected = drawn(pipe, plain, **inputs)
    for handle in handles:
        handle.remove()
    assert np.abs(picture - expected).max() < 1e-3
    assert np.abs(picture - unedited).max() > 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_without_concepts_is_the_untouched_pipeline(base: Base, kind: str) -> None:
    pipe, inputs = pipeline(base, kind), KINDS[kind][1]
    with perf.composed(pipe, "a boat on the sea", {}) as call:
        picture = drawn(pipe, call, **inputs)
    again = drawn(pipe, wrap(pipe).plain_inputs(["a boat on the sea"], [""]), **inputs)
    np.testing.assert_array_equal(picture, again)


def test_a_base_gives_its_pipelines_and_says_which_it_has_not(
    base: Base, concepts: dict[str, Concept]
) -> None:
    pipe = base.pipeline("image")
    assert type(pipe) is ImagePipeline
    with perf.composed(pipe, PROMPT, concepts) as call:
        assert drawn(pipe, call, **KINDS["image"][1]).shape == (1, 64, 64, 3)
    with pytest.raises(perf.PerfError, match="no pipeline for 'inpaint'") as caught:
        base.pipeline("inpaint")
    assert caught.value.hint == "there are text, image"


def test_a_pipeline_of_no_architecture_and_one_of_another_base_are_refused(
    base: Base, concepts: dict[str, Concept], tiny_base: Base
) -> None:
    parts = {name: part for name, part in base.pipe.components.items() if name != "text_encoder_2"}
    with (
        pytest.raises(perf.PerfError, match="SanaPipeline cannot carry concepts"),
        perf.composed(SanaPipeline(**parts), PROMPT, concepts),
    ):
        pass
    with (
        pytest.raises(perf.PerfError, match="teddy"),
        perf.composed(tiny_base.pipeline(), PROMPT, concepts),
    ):
        pass
    with torch.no_grad():
        assert wrap(tiny_base.pipe).description.architecture == "stable-diffusion"
