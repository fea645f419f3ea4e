"""Scores are those of the CLIP model itself."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from perfusion_registry.base import Base, Scorer, describe_base, load_base, scorer
from perfusion_registry.base.pixels import Preprocessing
from perfusion_registry.base.pretrained import load_pretrained
from perfusion_registry.errors import PerfError


def test_features_are_clips_own_as_unit_vectors(tiny_base: Base, tiny_base_folder: Path) -> None:
    """Against the whole model's forward pass, which normalises on its own."""
    assert tiny_base.scorer is not None
    texts = ["a photo of a teddy", "teapot"]
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = CLIPModel.from_pretrained(tiny_base_folder / "clip").eval()
    tokens = CLIPTokenizer.from_pretrained(tiny_base_folder / "clip")(
        texts, padding=True, return_tensors="pt"
    )
    mean, std = (
        torch.tensor([0.48145466, 0.4578275, 0.40821073]),
        torch.tensor([0.26862954, 0.26130258, 0.27577711]),
    )
    pixels = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        expected = model(**tokens, pixel_values=pixels)
    assert torch.allclose(tiny_base.scorer.image_features(images), expected.image_embeds, atol=1e-6)
    assert torch.allclose(tiny_base.scorer.text_features(texts), expected.text_embeds, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (131, 64), (20, 24)])
def test_pictures_of_any_size_are_prepared_as_clip_prepares_them(size: tuple[int, int]) -> None:
    ramp = np.linspace(0, 1, size[0] * size[1]).reshape(*size, 1) * np.array([1.0, 0.5, 0.25])
    picture = Image.fromarray((255 * ramp).astype(np.uint8))
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = torch.from_numpy(np.stack(processor(picture)["pixel_values"]))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
    assert torch.allclose(Preprocessing.clip(32)(pixels), expected, atol=0.05)


def test_the_folders_own_preprocessing_is_followed(tmp_path: Path) -> None:
    CLIPImageProcessor(
        size={"shortest_edge": 48},
        crop_size={"height": 48, "width": 48},
        image_mean=[0.1] * 3,
        image_std=[2.0] * 3,
    ).save_pretrained(tmp_path)
    read = Preprocessing.read(tmp_path, Preprocessing.clip(224))
    assert (read.size, read.mean, read.std) == (48, (0.1,) * 3, (2.0,) * 3)
    (tmp_path / "preprocessor_config.json").write_text("[")
    with pytest.raises(PerfError, match="cannot be read"):
        Preprocessing.read(tmp_path, Preprocessing.clip(224))


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(PerfError, match="CLIP model is missing"):
        Scorer.load(tmp_path / "clip", torch.device("cpu"))
    (tmp_path / "clip").mkdir()
    with pytest.raises(PerfError, match="cannot be loaded"):
        Scorer.load(tmp_path / "clip", torch.device("cpu"))


def test_a_base_loads_its_model_when_something_is_scored(
    tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says at once of a torn file that it is torn."""
    folder = Path(shutil.copytree(tiny_base_folder, tmp_path / "base"))
    loaded: list[Any] = []

    def load(kind: Any, *rest: Any) -> Any:
        loaded.append(kind)
        return load_pretrained(kind, *rest)

    monkeypatch.setattr(scorer, "load_pretrained", load)
    base = load_base(describe_base(str(folder)), "cpu", "float32")
    assert base.scorer is not None
    assert loaded == []
    images = torch.rand(1, 3, 32, 32)
    with ThreadPoolExecutor(4) as pool:
        features = list(pool.map(base.scorer.image_features, [images] * 8))
    assert loaded == [CLIPModel, CLIPTokenizer]
    assert all(torch.equal(one, features[0]) for one in features)
    weights = folder / "clip" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(PerfError, match="not a whole safetensors file"):
        Scorer(folder / "clip", torch.device("cpu"))
