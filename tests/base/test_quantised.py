"""Denoisers in GGUF and in fp8 carry concepts: as those of the very numbers that they compute with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import GGUFQuantizationConfig, UNet2DConditionModel

from perfusion_registry.base import Adaptation, Applied, Base, Change, describe_base, load_base, wrap
from perfusion_registry.base.layouts import LAYOUTS
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.render import RenderRequest, render
from tests.compose.conftest import concepts as concepts
from tests.compose.samples import on
from tests.gguf_files import save_gguf
from tests.one_file import one_file, tiny_layout

UNET = "model.diffusion_model."
_, SD_1, *_ = LAYOUTS


def gguf_unet(folder: Path, file: Path) -> Any:
    """The tiny base's UNet in a GGUF file, as diffusers reads it."""
    whole = one_file(folder, tiny_layout(folder, SD_1))
    save_gguf({name: tensor for name, tensor in whole.items() if name.startswith(UNET)}, file)
    return UNet2DConditionModel.from_single_file(
        str(file), config=str(folder), subfolder="unet", local_files_only=True, torch_dtype=torch.float32,
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
    )  # fmt: skip


def in_fp8(unet: Any) -> Any:
    """A UNet that diffusers casts layer by layer."""
    unet.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    return unet


def dense(unet: Any, like: Any) -> Any:
    """The same UNet with the numbers of each layer as that computes with them: what it makes of ones."""
    plain = copy.deepcopy(like)
    with torch.no_grad():
        for path, layer in plain.named_modules():
            own = unet.get_submodule(path)
            if isinstance(layer, torch.nn.Linear):
                zero = own(torch.zeros(1, layer.in_features))
                layer.weight.copy_((own(torch.eye(layer.in_features)) - zero).T)
                if layer.bias is not None:
                    layer.bias.copy_(zero[0])
            else:
                for name, parameter in layer.named_parameters(recurse=False):
                    parameter.copy_(getattr(own, name).float())
    return plain


@pytest.fixture(scope="module", params=["gguf", "fp8"])
def pair(
    request: pytest.FixtureRequest, tiny_base_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Base, Base]:
    """A base whose denoiser is quantised, and one of the same numbers."""
    here: Any = load_base(describe_base(str(tiny_base_folder)), "cpu", "float32", "float32")
    if request.param == "gguf":
        pytest.importorskip("gguf")
        unet = gguf_unet(tiny_base_folder, tmp_path_factory.mktemp("gguf") / "unet.gguf")
    else:
        unet = in_fp8(copy.deepcopy(here.pipe.unet))
    kind, parts = type(here.pipe), here.pipe.components
    quantised, plain = (
        kind(**{**parts, "unet": one}, requires_safety_checker=False)
        for one in (unet, dense(unet, here.pipe.unet))
    )
    return wrap(quantised, here.description), wrap(plain, here.description)


def drawn(base: Base, prompt: str, concepts: dict[str, Concept]) -> np.ndarray:
    request = RenderRequest(seeds=(5,), steps=2, guidance=3.0, width=64, height=64, scheduler="euler")
    ((picture,)) = render(base, compose(parse_prompt(prompt), concepts, base), request, on(concepts))
    return np.asarray(picture.image).astype(int)


def test_its_bank_is_what_its_layers_compute_with(pair: tuple[Base, Base]) -> None:
    quantised, plain = pair
    assert quantised.dtype == torch.float32
    assert torch.allclose(quantised.bank.W, plain.bank.W, atol=1e-6)
    assert wrap(quantised.pipe).description.family == wrap(plain.pipe).description.family


@pytest.mark.parametrize("prompt", ["a hugsy* and a teddy* in the snow", "a cat in the snow"])
def test_it_draws_concepts_as_a_denoiser_of_the_same_numbers(
    pair: tuple[Base, Base], concepts: dict[str, Concept], prompt: str
) -> None:
    called = {name: concepts[name] for name in parse_prompt(prompt).names}
    ours, theirs = (drawn(base, prompt, called) for base in pair)
    assert np.abs(ours - theirs).max() <= 1


def test_adapters_are_added_in_the_format_that_a_layer_computes_in(pair: tuple[Base, Base]) -> None:
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    change = Change(torch.randn(2, 64) / 8, torch.randn(64, 2))
    x = torch.randn(1, 4, 8, 8)
    answers = []
    for base in pair:
        states = base.encode([base.tokenise(["a cat"])])
        packed = states.with_states(states.states @ base.bank.W.T)
        with torch.no_grad(), base.attached(adaptation=Adaptation((Applied({path: change}, 1.0),))):
            answers.append(base.denoise(x, torch.tensor(500), packed))
    assert torch.allclose(*answers, atol=1e-4)


def test_a_layer_that_is_quantised_otherwise_is_refused(tiny_base: Base) -> None:
    class Linear4bit(torch.nn.Linear):
        pass

    unet: Any = copy.deepcopy(tiny_base.pipe.unet)
    layer = unet.get_submodule(tiny_base.bank.layers[0].path)
    layer.to_k = Linear4bit(*reversed(layer.to_k.weight.shape), bias=False)
    pipe: Any = type(tiny_base.pipe)(
        **{**tiny_base.pipe.components, "unet": unet}, requires_safety_checker=False
    )
    with pytest.raises(PerfError, match="to_k is a Linear4bit, not a plain linear layer"):
        wrap(pipe)
