"""What headers say of a file: base, word, licence, strength."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from perfusion_registry.adapters.metadata import (
    PeftSettings,
    base_kind,
    base_name,
    licence,
    peft_settings,
    words,
)
from perfusion_registry.adapters.reading import look_into, read_adapters
from perfusion_registry.errors import PerfError
from tests.adapters.dialects import save
from tests.adapters.samples import tiny_modules

MODULE = "mid_block.resnets.0.time_emb_proj"
FACTORS = {
    f"unet.{MODULE}.lora_A.weight": torch.randn(4, 128),
    f"unet.{MODULE}.lora_B.weight": torch.randn(64, 4),
}


def test_modelspec_and_kohyas_metadata_tell_base_word_and_licence(tmp_path: Path) -> None:
    said = {
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.trigger_phrase": "ohwx cat",
        "modelspec.license": "CC-BY-4.0",
        "ss_sd_model_name": "illustrious.safetensors",
        "ss_tag_frequency": json.dumps({"10_other words": {}}),
    }
    contents = look_into(save(tmp_path / "it.safetensors", FACTORS, said), tiny_modules())
    assert (contents.base, contents.base_name) == ("SDXL", "illustrious.safetensors")
    assert (contents.words, contents.licence) == (("ohwx cat",), "CC-BY-4.0")
    assert contents.opened.header.metadata == said
    nothing = look_into(save(tmp_path / "bare.safetensors", FACTORS), tiny_modules())
    assert (nothing.base, nothing.base_name, nothing.words, nothing.licence) == (None, None, (), None)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"ss_base_model_version": "sd_v1"}, "Stable Diffusion 1"),
        ({"ss_base_model_version": "sd_v2_v"}, "Stable Diffusion 2"),
        ({"ss_base_model_version": "sdxl_base_v1-0"}, "SDXL"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "Stable Diffusion 2"),
        ({"modelspec.architecture": "flux-1-dev/lora"}, "FLUX"),
        ({"modelspec.architecture": "something\nelse"}, "something else"),
        ({}, None),
    ],
)
def test_the_base_is_told_by_the_words_of_the_tools(said: dict[str, str], kind: str | None) -> None:
    assert base_kind(said) == kind


def test_folders_of_a_training_are_its_words() -> None:
    frequency = json.dumps({"10_ohwx cat": {"cat": 3}, "1_sks": {}, "plain": {}})
    assert words({"ss_tag_frequency": frequency}) == ("ohwx cat", "sks", "plain")
    assert words({"ss_dataset_dirs": json.dumps({"5_ohwx cat": {"n_repeats": 5}})}) == ("ohwx cat",)
    for broken in ("{", "[1]", "3", "[" * 5000):
        assert words({"ss_tag_frequency": broken}) == ()
    assert base_name({"ss_sd_model_name": "None"}) is None
    assert licence({"modelspec.license": " "}) is None


def test_pefts_settings_are_those_of_peft() -> None:
    one = peft_settings({}, {"lora_alpha": 8, "alpha_pattern": {"attn2.to_k": 2}, "use_rslora": False})
    assert one.alpha("denoiser", "a.attn2.to_k", 4) == 2
    assert one.alpha("denoiser", "a.attn2.to_q", 4) == 8
    stable = peft_settings({}, {"lora_alpha": 8, "use_rslora": True})
    assert stable.alpha("denoiser", "x", 4) == 16  # over the root of the rank, not the rank
    text = json.dumps({"unet.lora_alpha": 3, "text_encoder.lora_alpha": 5})
    both = peft_settings({"lora_adapter_metadata": text})
    assert (both.alpha("denoiser", "x", 4), both.alpha("text_encoder", "x", 4)) == (3, 5)
    assert both.alpha("text_encoder_2", "x", 4) is None
    assert peft_settings({"lora_adapter_metadata": "[]"}) == PeftSettings({})
    with pytest.raises(PerfError, match="no number as the alpha of `x`"):
        peft_settings({}, {"lora_alpha": "much"}).alpha("denoiser", "x", 4)
    with pytest.raises(PerfError, match="peft's IA3, and perf reads LoRA, LoHa and LoKr"):
        peft_settings({}, {"peft_type": "IA3"})


def test_alpha_comes_from_the_files_metadata(tmp_path: Path) -> None:
    said = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 2, "unet.r": 4})}
    (one,) = read_adapters(save(tmp_path / "it.safetensors", FACTORS, said), tiny_modules()).adapters
    assert (one.alpha, one.rank, one.scale) == (2, 4, 0.5)
