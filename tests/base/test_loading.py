"""A loaded base is frozen, complete, and draws."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.errors import PerfError


@pytest.fixture
def folder(tiny_base_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_base_folder, tmp_path / "base")


def test_everything_is_frozen_and_in_evaluation_mode(tiny_base: Base) -> None:
    for model in (tiny_base.pipe.unet, tiny_base.pipe.vae, tiny_base.text_encoder):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert tiny_base.text_encoder is tiny_base.pipe.text_encoder
    assert (tiny_base.device.type, tiny_base.dtype) == ("cpu", torch.float32)


def test_half_precision_keeps_encodings_in_fp32(tiny_base: Base) -> None:
    half = load_base(tiny_base.description, device="cpu", dtype="bf16")
    assert (half.dtype, half.compute_dtype, half.pipe.unet.dtype) == (torch.bfloat16,) * 3
    prompts = [half.tokenise(["a photo of a teddy"])]
    assert torch.equal(half.encode(prompts).states, tiny_base.encode(prompts).states)
    picture = half.pipe("a teddy", num_inference_steps=2, height=64, width=64, output_type="np").images
    assert picture.shape == (1, 64, 64, 3)


def test_autocast_computes_in_the_compute_dtype(tiny_base: Base) -> None:
    mixed = load_base(tiny_base.description, device="cpu", dtype="fp32", compute_dtype="bf16")
    a = torch.ones(2, 2)
    with mixed.autocast():
        assert (a @ a).dtype == torch.bfloat16
    with tiny_base.autocast():
        assert (a @ a).dtype == torch.float32


def test_a_model_that_only_has_fp16_weights_is_loaded(folder: Path) -> None:
    for path in (
        "unet/diffusion_pytorch_model",
        "vae/diffusion_pytorch_model",
        "text_encoder/model",
    ):
        tensors = load_file(folder / f"{path}.safetensors")
        half = {
            name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
        }
        save_file(half, folder / f"{path}.fp16.safetensors", metadata={"format": "pt"})
        (folder / f"{path}.safetensors").unlink()
    description = describe_base(str(folder))
    assert set(description.variants.values()) == {"fp16"}
    base = load_base(description, device="cpu", compute_dtype="fp32")
    assert base.dtype == torch.float32
    assert torch.equal(base.bank.W, base.bank.W.half().float())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "conv_in.bias"),
        ("text_encoder/model.safetensors", "final_layer_norm.bias"),
        ("vae/diffusion_pytorch_model.safetensors", "quant_conv.bias"),
    ],
)
def test_missing_weights_are_never_filled_with_noise(folder: Path, path: str, name: str) -> None:
    tensors = load_file(folder / path)
    del tensors[name]
    save_file(tensors, folder / path, metadata={"format": "pt"})
    with pytest.raises(PerfError, match=name):
        load_base(describe_base(str(folder)), device="cpu")


def test_files_that_do_not_fit_their_configuration_are_told(folder: Path) -> None:
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"block_out_channels": [8, 8, 16, 24]}))
    with pytest.raises(PerfError, match="cannot be loaded"):
        load_base(describe_base(str(folder)), device="cpu")


def test_a_base_without_clip_has_no_scorer(folder: Path) -> None:
    shutil.rmtree(folder / "clip")
    assert load_base(describe_base(str(folder)), device="cpu").scorer is None


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("text_encoder", {"attention_dropout": []}),
        ("text_encoder", {"hidden_act": 3.5}),
        ("unet", {"block_out_channels": []}),
        ("vae", {"norm_num_groups": 0}),
        ("scheduler", {"num_train_timesteps": "x"}),
    ],
)
def test_whatever_a_configuration_says_it_is_an_error_of_ours(
    tiny_base_folder: Path, tmp_path: Path, part: str, change: dict[str, object]
) -> None:
    folder = Path(shutil.copytree(tiny_base_folder, tmp_path / "base"))
    path = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(PerfError, match="cannot be loaded") as caught:
        load_base(describe_base(str(folder)), device="cpu", dtype="float32", compute_dtype="float32")
    assert "\n" not in caught.value.what
