"""What is written can be read again, by perf and by its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perfusion_registry.adapters.adapter import Adapter, WordVectors
from perfusion_registry.adapters.difference import difference
from perfusion_registry.adapters.modules import Modules
from perfusion_registry.adapters.reading import read_adapters
from perfusion_registry.adapters.writing import embedding_tensors, file_bytes, kohya_tensors, metadata
from tests.adapters.samples import real_modules, tiny_modules, tiny_sdxl_modules
from tests.adapters.test_reading import places, random_adapter


@pytest.mark.parametrize("modules", [tiny_modules(), tiny_sdxl_modules()], ids=["SD", "SDXL"])
@pytest.mark.parametrize("kind", ["lora", "lora_mid", "dora", "loha", "lokr"])
def test_adapters_come_back(tmp_path: Path, modules: Modules, kind: str) -> None:
    torch.manual_seed(0)
    made = [random_adapter(kind, place, modules, alpha=True) for place in places(modules)]
    said = metadata("lora", modules, title="toy", base="some", word="ohwx", licence="MIT")
    tensors = kohya_tensors([one for one, _, _ in made], modules)
    data = file_bytes(tensors, said)
    assert data == file_bytes(dict(reversed(tensors.items())), dict(reversed(said.items())))
    (tmp_path / "it.safetensors").write_bytes(data)
    file = read_adapters(tmp_path / "it.safetensors", modules)
    assert (file.contents.words, file.contents.licence, file.contents.base_name) == (("ohwx",), "MIT", "some")
    back = {(one.component, one.module): one for one in file.adapters}
    assert len(back) == len(made)
    for adapter, _, layer in made:
        ours = back[adapter.component, adapter.module]
        weight = layer.weight.detach().float()
        assert torch.equal(difference(ours, weight), difference(adapter, weight))


def test_what_has_no_alpha_gets_its_rank() -> None:
    factors = {"lora_down": torch.randn(3, 64), "lora_up": torch.randn(64, 3)}
    adapter = Adapter("denoiser", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "lora", factors)
    assert float(kohya_tensors([adapter], tiny_modules()).popitem()[1]) == 3


def test_words_come_back(tmp_path: Path) -> None:
    for modules, vectors in (
        (tiny_modules(), {"text_encoder": torch.randn(2, 32)}),
        (tiny_sdxl_modules(), {"text_encoder": torch.randn(1, 32), "text_encoder_2": torch.randn(1, 48)}),
    ):
        (tmp_path / "it.safetensors").write_bytes(
            file_bytes(
                embedding_tensors(WordVectors("<toy>", vectors)), {"modelspec.trigger_phrase": "<toy>"}
            )
        )
        file = read_adapters(tmp_path / "it.safetensors", modules)
        (words,) = file.embeddings
        assert words.word == ("<toy>" if len(vectors) == 1 else None)
        assert file.contents.words == ("<toy>",)
        assert all(torch.equal(words.vectors[name], own) for name, own in vectors.items())


@pytest.mark.parametrize("called", ["Stable Diffusion 1", "Stable Diffusion 2", "SDXL"])
def test_other_programs_are_told_the_kind_of_base(called: str) -> None:
    from perfusion_registry.adapters.metadata import base_kind

    said = metadata("lora", real_modules(called), title="t", base="b", word=None, licence=None)
    assert base_kind(said) == called
    assert "modelspec.trigger_phrase" not in said
