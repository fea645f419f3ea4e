"""Denoisers in GGUF and in fp8 carry concepts: as those of the very numbers that they compute with."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import GGUFQuantizationConfig, UNet2DConditionModel
from safetensors.torch import save_file

from perfusion_registry.base import (
    Adaptation,
    Applied,
    Base,
    Change,
    Form,
    SaidOfBase,
    describe_base,
    load_base,
    wrap,
)
from perfusion_registry.base.changed import require_changeable
from perfusion_registry.base.layouts import LAYOUTS
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.packing import edited
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import BaseSection
from perfusion_registry.render import RenderRequest, render
from tests.compose.conftest import concepts as concepts
from tests.compose.samples import on
from tests.gguf_files import save_gguf
from tests.methods import imported
from tests.one_file import one_file, tiny_layout

UNET, KEYS = "model.diffusion_model.", "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_, SD_1, *_ = LAYOUTS


def tensors_of(folder: Path) -> dict[str, Any]:
    """The tiny base's UNet, as CompVis names its tensors."""
    whole = one_file(folder, tiny_layout(folder, SD_1))
    own = {name.removeprefix(UNET): tensor for name, tensor in whole.items() if name.startswith(UNET)}
    return {name: tensor.contiguous().clone() for name, tensor in own.items()}


def gguf_unet(folder: Path, file: Path) -> Any:
    """The tiny base's UNet in a GGUF file, as diffusers reads it."""
    save_gguf({UNET + name: tensor for name, tensor in tensors_of(folder).items()}, file)
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


def drawn(base: Base, prompt: str, concepts: dict[str, Concept], form: Form = "packed") -> np.ndarray:
    request = RenderRequest(seeds=(5,), steps=2, guidance=3.0, width=64, height=64, scheduler="euler")
    composition, packing = compose(parse_prompt(prompt), concepts, base), partial(edited, form=form)
    ((picture,)) = render(base, composition, request, on(concepts), packing=packing)
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
    if called:
        thin = drawn(pair[0], prompt, called, "thin")
        assert np.abs(thin - theirs).max() <= 1


def test_adapters_are_added_in_the_format_that_a_layer_computes_in(pair: tuple[Base, Base]) -> None:
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    width = pair[0].denoiser.get_submodule(path).in_features
    change = Change(torch.randn(2, width) / 8, torch.randn(width, 2))  # type: ignore[arg-type]
    x = torch.randn(1, 4, 8, 8)
    answers = []
    for base in pair:
        states = base.encode([base.tokenise(["a cat"])])
        packed = states.with_states(states.states @ base.bank.W.T)
        with torch.no_grad(), base.attached(adaptation=Adaptation((Applied({path: change}, 1.0),))):
            answers.append(base.denoise(x, torch.tensor(500), packed))
    assert torch.allclose(*answers, atol=1e-4)


def loaded(folder: Path, root: Path, **section: Any) -> Any:
    said = SaidOfBase(BaseSection.model_validate(section), root, "perfusion.toml")
    return load_base(describe_base(str(folder), said=said), "cpu", "float32", "float32")


@pytest.mark.parametrize("prefix", [UNET, ""])
def test_a_project_puts_a_gguf_unet_into_its_base(
    tiny_base_folder: Path, tmp_path: Path, concepts: dict[str, Concept], prefix: str
) -> None:
    """As ComfyUI and stable-diffusion.cpp name its tensors."""
    pytest.importorskip("gguf")
    own = tensors_of(tiny_base_folder)
    save_gguf({prefix + name: tensor for name, tensor in own.items()}, tmp_path / "unet.gguf")
    here = load_base(describe_base(str(tiny_base_folder)), "cpu", "float32", "float32")
    base = loaded(tiny_base_folder, tmp_path, unet="unet.gguf")
    about = base.description
    assert about.family == here.description.family
    assert about.digest != here.description.digest
    assert {file.part for file in about.files} == {None, "unet"}
    kind: Any = type(here.pipe)
    parts = {**here.pipe.components, "unet": dense(base.pipe.unet, here.pipe.unet)}
    plain = wrap(kind(**parts, requires_safety_checker=False), here.description)
    assert torch.allclose(base.bank.W, plain.bank.W, atol=1e-6)
    called = {"hugsy": concepts["hugsy"]}
    ours, theirs = (drawn(one, "a hugsy* in the snow", called) for one in (base, plain))
    assert np.abs(ours - theirs).max() <= 1


def test_a_project_puts_a_unet_in_fp8_into_its_base(tiny_base_folder: Path, tmp_path: Path) -> None:
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors_of(tiny_base_folder).items()}
    save_file(small, tmp_path / "unet.safetensors")
    base = loaded(tiny_base_folder, tmp_path, unet="unet.safetensors")
    here = load_base(describe_base(str(tiny_base_folder)), "cpu", "float32", "float32")
    other = base.pipe.unet.state_dict()
    for name, tensor in here.pipe.unet.state_dict().items():
        assert torch.equal(other[name], tensor.to(torch.float8_e4m3fn).float()), name


def test_a_unet_that_cannot_be_put_in_is_refused(
    tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    own = tensors_of(tiny_base_folder)
    save_gguf(own, tmp_path / "unet.gguf")
    save_file({**own, KEYS: own[KEYS][:16].clone()}, tmp_path / "other.safetensors")
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "unet.gguf").read_bytes()[:100])
    save_file({"a": torch.zeros(1)}, tmp_path / "lora.safetensors")

    def refusal(**section: Any) -> str:
        with pytest.raises(PerfError) as raised:
            loaded(tiny_base_folder, tmp_path, **section)
        assert str(raised.value.where).startswith("perfusion.toml, base.")
        return f"{raised.value.what}; {raised.value.hint}"

    assert "other layers than the base's own" in refusal(unet="other.safetensors")
    assert "no whole GGUF file" in refusal(unet="cut.gguf")
    first = "input_blocks.0.0.weight"
    flat = {**own, first: own[first].reshape(-1, 32).clone()}
    save_gguf(flat, tmp_path / "comfy.gguf", shapes={first: tuple(own[first].shape)})
    assert "laid out anew by ComfyUI's converter" in refusal(unet="comfy.gguf")
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in own.items()}
    scaled = {**small, f"{KEYS.removesuffix('weight')}scale_weight": torch.ones(1)}
    save_file(scaled, tmp_path / "scaled.safetensors")
    assert "scaled beside their numbers" in refusal(unet="scaled.safetensors")
    save_file({**own, KEYS: own[KEYS].to(torch.int8)}, tmp_path / "int8.safetensors")
    assert "weights are in I8" in refusal(unet="int8.safetensors")
    assert "not a UNet as ComfyUI has it" in refusal(unet="lora.safetensors")
    assert "cannot be added to the weights of a GGUF file" in refusal(
        unet="unet.gguf", lora=({"file": "lora.safetensors"},)
    )
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert refusal(unet="unet.gguf") == (
        "gguf is not installed, and is needed to read a GGUF file; pip install 'perfusion-registry[gguf]'"
    )


def test_a_unet_that_is_marked_with_another_prediction_is_refused(
    tiny_base_folder: Path, tmp_path: Path
) -> None:
    """In a folder that is so itself it is taken."""
    marks = {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}
    save_file({**tensors_of(tiny_base_folder), **marks}, tmp_path / "unet.safetensors")
    with pytest.raises(
        PerfError, match="v_prediction\" and zero_terminal_snr = true, and the base's"
    ) as raised:
        loaded(tiny_base_folder, tmp_path, unet="unet.safetensors")
    assert raised.value.where == "perfusion.toml, base.unet"
    shutil.copytree(tiny_base_folder, tmp_path / "own")
    scheduler = tmp_path / "own" / "scheduler" / "scheduler_config.json"
    said = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), **said}))
    about = BaseSection.model_validate({"unet": "unet.safetensors"})
    assert describe_base(str(tmp_path / "own"), said=SaidOfBase(about, tmp_path, "perfusion.toml"))


@pytest.mark.parametrize("decomposed", [False, True])
def test_loras_are_imported_on_it(pair: tuple[Base, Base], tmp_path: Path, decomposed: bool) -> None:
    """A plain one, and one whose change asks for the weights themselves."""
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    width = pair[0].denoiser.get_submodule(path).in_features
    name = f"lora_unet_{path.replace('.', '_')}"
    tensors = {
        f"{name}.lora_down.weight": torch.randn(2, width), f"{name}.lora_up.weight": torch.randn(width, 2)
    }  # fmt: skip
    if decomposed:
        tensors[f"{name}.dora_scale"] = torch.rand(width, 1) + 0.5
    save_file(tensors, tmp_path / "style.safetensors")
    pictures = []
    for base in pair:
        style = {"crayon": imported.concept(base, tmp_path / "style.safetensors", "crayon")}
        pictures.append(imported.drawn(base, "a cat crayon*", style))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1
    assert np.abs(pictures[0] - imported.drawn(pair[0], "a cat", {})).max() > 1


def test_nothing_is_added_to_the_weights_of_a_gguf_file(tiny_base_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    with pytest.raises(PerfError, match="weights of a GGUF file"):
        require_changeable(gguf_unet(tiny_base_folder, tmp_path / "unet.gguf"))


def test_a_layer_that_is_quantised_otherwise_has_no_copy(tiny_base: Base) -> None:
    """It is drawn with in the thin form, which needs none."""

    class Linear4bit(torch.nn.Linear):
        pass

    unet: Any = copy.deepcopy(tiny_base.pipe.unet)
    layer = unet.get_submodule(tiny_base.bank.layers[0].path)
    layer.to_k = Linear4bit(*reversed(layer.to_k.weight.shape), bias=False)
    pipe: Any = type(tiny_base.pipe)(
        **{**tiny_base.pipe.components, "unet": unet}, requires_safety_checker=False
    )
    base = wrap(pipe)
    assert base.form == "thin"
    with pytest.raises(PerfError, match="`to_k` is a Linear4bit of tests, not a plain linear layer"):
        _ = base.bank.W
