"""What peft and diffusers themselves write is read to the change that they make."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from torch import nn

from perfusion_registry.adapters.difference import difference
from perfusion_registry.adapters.reading import read_adapters
from tests.adapters.samples import tiny_modules
from tests.tiny import tiny_unet

TARGETS = ["attn2.to_k", "attn1.to_out.0", "ff.net.2", "conv1", "proj_in", "time_emb_proj"]
CONFIGURATIONS: dict[str, Callable[[], Any]] = {
    "LoRA": lambda: LoraConfig(r=3, lora_alpha=5, target_modules=TARGETS),
    "LoRA with ranks and alphas of their own": lambda: LoraConfig(
        r=4, lora_alpha=8, target_modules=TARGETS, rank_pattern={"conv1": 2}, alpha_pattern={"attn2.to_k": 3}
    ),
    "stabilised": lambda: LoraConfig(r=4, lora_alpha=2, target_modules=TARGETS, use_rslora=True),
    "DoRA": lambda: LoraConfig(r=3, lora_alpha=5, target_modules=TARGETS, use_dora=True),
    "LoHa": lambda: LoHaConfig(r=3, alpha=5, target_modules=TARGETS),
    "LoHa with kernels": lambda: LoHaConfig(r=3, alpha=5, target_modules=TARGETS, use_effective_conv2d=True),
    "LoKr": lambda: LoKrConfig(r=3, alpha=5, target_modules=TARGETS),
    "LoKr, factored twice": lambda: LoKrConfig(
        r=2,
        alpha=5,
        target_modules=TARGETS,
        decompose_both=True,
        decompose_factor=8,
        use_effective_conv2d=True,
    ),
}


@pytest.fixture(autouse=True)
def own_numbers() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {
        path.removeprefix("text_model."): module.weight.detach().clone()
        for path, module in model.named_modules()
        if hasattr(module, "weight")
    }


def randomised(model: nn.Module, marks: tuple[str, ...] = ("lora_", "hada_", "lokr_")) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
            elif any(mark in name for mark in marks):
                parameter.copy_(0.3 * torch.randn_like(parameter))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_folder_of_peft_is_what_peft_merges(tmp_path: Path, name: str) -> None:
    unet = tiny_unet()
    before = {
        path: module.weight.detach().clone()
        for path, module in unet.named_modules()
        if hasattr(module, "weight")
    }
    model: Any = get_peft_model(copy.deepcopy(unet), CONFIGURATIONS[name]())
    randomised(model)
    model.save_pretrained(tmp_path)
    file = read_adapters(tmp_path, tiny_modules())
    assert file.contents.dialect == "PEFT"
    merged = dict(model.merge_and_unload().named_modules())
    assert len(file.adapters) >= 30
    kinds = set()
    for adapter in file.adapters:
        wanted = merged[adapter.module].weight.detach() - before[adapter.module]
        change = difference(adapter, before[adapter.module])
        assert (change - wanted).abs().max() < 3e-6 * max(1.0, float(wanted.abs().max())), adapter.module
        kinds.add(before[adapter.module].shape[2:])
    assert len(kinds) == 3  # linear, 1x1, 3x3


def test_a_file_of_diffusers_is_what_peft_merges(tmp_path: Path, tiny_base_folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(tiny_base_folder, safety_checker=None)
    before = {one: weights_of(getattr(pipe, one)) for one in ("unet", "text_encoder")}
    pipe.unet.add_adapter(LoraConfig(r=3, lora_alpha=5, target_modules=TARGETS))
    pipe.text_encoder.add_adapter(LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "fc1"]))
    for model in (pipe.unet, pipe.text_encoder):
        randomised(model)
    pipe.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(pipe.unet),
        text_encoder_lora_layers=get_peft_model_state_dict(pipe.text_encoder),
        unet_lora_adapter_metadata=pipe.unet.peft_config["default"].to_dict(),
        text_encoder_lora_adapter_metadata=pipe.text_encoder.peft_config["default"].to_dict(),
    )
    file = read_adapters(tmp_path, tiny_modules())
    assert file.contents.dialect == "diffusers"
    assert {one.component for one in file.adapters} == {"denoiser", "text_encoder"}
    for adapter in file.adapters:
        component = "unet" if adapter.component == "denoiser" else adapter.component
        path = adapter.module.removeprefix("text_model.")
        (layer,) = (
            module
            for name, module in getattr(pipe, component).named_modules()
            if name.removeprefix("text_model.") == path
        )
        layer.merge()
        wanted = layer.weight.detach() - before[component][path]
        layer.unmerge()
        assert wanted.abs().max() > 0.01
        assert (difference(adapter, before[component][path]) - wanted).abs().max() < 3e-6
