"""Masks are CLIPSeg's own, at the size of the pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from perfusion_registry.base import Segmenter
from perfusion_registry.errors import PerfError
from tests.tiny import save_tiny_tokenizer, text_config


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clipseg")
    texts = text_config(save_tiny_tokenizer(folder)).to_dict()
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    config = CLIPSegConfig(
        text_config=texts, vision_config=vision, projection_dim=32, extract_layers=[0, 1, 2], reduce_dim=16
    )
    torch.manual_seed(0)
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"size": {"height": 32, "width": 32}, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}'
    )
    return folder


def test_masks_are_the_models_own_probabilities(clipseg: Path) -> None:
    segmenter = Segmenter.load(clipseg)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    masks = segmenter.masks(images, "teddy")
    assert masks.shape == (2, 32, 32)
    tokens = segmenter.tokenizer(["teddy"] * 2, return_tensors="pt")
    with torch.no_grad():
        logits = segmenter.model(**tokens, pixel_values=images).logits
    assert torch.allclose(masks, logits.sigmoid(), atol=1e-6)
    assert not torch.equal(segmenter.masks(images, "teapot"), masks)


def test_one_picture_of_another_shape(clipseg: Path) -> None:
    masks = Segmenter.load(str(clipseg), "cpu").masks(torch.rand(1, 3, 40, 72), "cat")
    assert masks.shape == (1, 40, 72)
    assert bool(((masks >= 0) & (masks <= 1)).all())


def test_a_model_that_is_not_here_is_not_downloaded_unasked(tmp_path: Path) -> None:
    with pytest.raises(PerfError, match="not on this machine") as caught:
        Segmenter.load("nobody/has-this-model", allow_download=False)
    assert "PERF_ALLOW_DOWNLOAD=1" in str(caught.value.hint)
    with pytest.raises(PerfError, match="is missing"):
        Segmenter.load(tmp_path / "absent")
