"""Likeness by a self-supervised vision model: the class token of the folder's own model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPTextModel, Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from perfusion_registry.base.likeness import Likeness
from perfusion_registry.errors import PerfError
from tests.tiny import save_tiny_tokenizer, text_config

CPU = torch.device("cpu")
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def save_dino(folder: Path, config=ViTConfig, model=ViTModel) -> Path:
    """A tiny random DINO (which is a plain vision transformer) or DINOv2."""
    torch.manual_seed(0)
    model(config(**SHAPE, intermediate_size=32)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_mean": [0.4, 0.4, 0.4], "image_std": [0.2, 0.2, 0.2]}'
    )
    return folder


@pytest.mark.parametrize(("config", "model"), [(ViTConfig, ViTModel), (Dinov2Config, Dinov2Model)])
def test_features_are_the_class_tokens(tmp_path: Path, config, model) -> None:
    folder = save_dino(tmp_path, config, model)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = Likeness.load(folder, CPU).features(images)
    with torch.no_grad():
        states = model.from_pretrained(folder).eval()(pixel_values=(images - 0.4) / 0.2).last_hidden_state
    expected = states[:, 0] / states[:, 0].norm(dim=-1, keepdim=True)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_folder_without_a_vision_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PerfError):
        Likeness.load(tmp_path, CPU)
    CLIPTextModel(text_config(save_tiny_tokenizer(tmp_path))).save_pretrained(tmp_path)
    with pytest.raises(PerfError, match="no vision transformer"):
        Likeness.load(tmp_path, CPU)
