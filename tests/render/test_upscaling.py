"""Pictures that the base's own upscaler enlarges, and bases that have none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from perfusion_registry.render.metadata import read_metadata
from tests.compose.conftest import concepts as concepts
from tests.compose.conftest import project as project
from tests.compose.conftest import write_project
from tests.render.test_cli import perf as perf
from tests.tiny import text_config


def save_upscaler(folder: Path, tokenizer_folder: Path, seed: int = 0) -> None:
    """A tiny random pipeline that enlarges four times."""
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        StableDiffusionUpscalePipeline(
            vae=AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 3,
                up_block_types=("UpDecoderBlock2D",) * 3,
                block_out_channels=(8, 8, 16),
                layers_per_block=1,
                latent_channels=4,
                norm_num_groups=8,
                scaling_factor=0.08333,
            ),
            text_encoder=CLIPTextModel(text_config(tokenizer)),
            tokenizer=tokenizer,
            unet=UNet2DConditionModel(
                in_channels=7,
                out_channels=4,
                block_out_channels=(16, 32),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=32,
                attention_head_dim=8,
                norm_num_groups=8,
                num_class_embeds=1000,
            ),
            low_res_scheduler=DDPMScheduler(),
            scheduler=DDIMScheduler(prediction_type="v_prediction"),
        ).save_pretrained(folder)


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_base_folder, concepts):  # noqa: F811
    """As in the other tests of drawing, on a base of its own that has an upscaler."""
    from perfusion_registry.artifact import Store

    monkeypatch.setenv("PERF_CACHE_DIR", str(tmp_path / "cache"))
    base = shutil.copytree(tiny_base_folder, tmp_path / "base")
    save_upscaler(base / "upscaler", base / "tokenizer")
    return write_project(tmp_path / "project", Store(tmp_path / "cache"), base, concepts)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_picture_is_enlarged_and_drawn_again(perf, tmp_path):
    plain, large = (
        perf("render", "a teddy* in the snow", "--count", 2, "--size", "32x64", *more).stdout.split()
        for more in ([], ["--upscale"])
    )
    assert len({*plain, *large}) == 4
    small, big = pixels(plain[1]), pixels(large[1])
    assert big.shape == (4 * small.shape[0], 4 * small.shape[1], 3)
    record = read_metadata(perf.root / large[1])
    assert record.request.upscale
    assert (record.request.width, record.request.height) == (32, 64)
    assert read_metadata(perf.root / plain[1]).upscaler is None
    assert not record.same_picture(read_metadata(perf.root / plain[1]))
    (again,) = perf("render", "--from", large[1], "--out", "again.png").stdout.split()
    assert np.array_equal(pixels(again), big)
    (later,) = perf("render", "--from", plain[1], "--upscale", "--out", "later.png").stdout.split()
    assert np.array_equal(pixels(later), big)

    save_upscaler(tmp_path / "base" / "upscaler", tmp_path / "base" / "tokenizer", seed=1)
    told = perf("render", "--from", large[1], "--out", "other.png", code=2).stderr
    assert "enlarged by another upscaler" in told
    assert "Loading" not in told


def test_a_base_without_an_upscaler_says_so_before_it_is_loaded(perf, tmp_path):
    perf("render", "a teddy* in the snow", "--out", "plain.png", "--steps", 1)
    perf("compose", "a teddy*", "--out", "c.json")
    index = tmp_path / "base" / "upscaler" / "model_index.json"
    index.write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    assert "is no upscaler" in perf("render", "a hat", "--upscale", code=2).stderr
    shutil.rmtree(index.parent)
    for arguments in (["a hat"], ["-"], ["--from", "plain.png"], ["--composition", "c.json"]):
        told = perf("render", *arguments, "--upscale", code=2, text="a hat\n").stderr
        assert "has no upscaler" in told
        assert "Loading" not in told
