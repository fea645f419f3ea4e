"""Text encoders that keep 16 bits compute what they compute in fp32, to the bit, whichever they are, and
wherever they come from."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from perfusion_registry.base import Base, describe_base, layouts, load_base, upcasting
from perfusion_registry.base.layouts import LAYOUTS
from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.base.quantised import computes_in
from perfusion_registry.base.upcasting import UpcastLinear, share_weights, upcast, upcast_of
from tests.anima import save_tiny_anima
from tests.cuda_stand_in import cuda_stand_in
from tests.one_file import save_one_file, tiny_layout
from tests.pixart import save_tiny_pixart
from tests.sdxl import save_tiny_sdxl

CLIP = CLIPTextConfig(
    vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
)
T5 = T5Config(
    vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
)
ENCODERS: dict[str, Callable[[], Any]] = {
    "CLIP": lambda: CLIPTextModelWithProjection(CLIP),
    "T5": lambda: T5EncoderModel(T5),
}
FORMATS = [torch.float16, torch.bfloat16]
SAVE = {"sdxl": save_tiny_sdxl, "pixart": save_tiny_pixart, "anima": save_tiny_anima}
TEXT = {
    "sdxl": ["text_encoder", "text_encoder_2"],
    "pixart": ["text_encoder"],
    "anima": ["text_encoder", "text_conditioner"],
}


@pytest.fixture
def every_one_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcasting, "LARGE", 0)


def states_and_gradient(model: Any, embedded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What an encoder says of embeddings (1, n, d), and what comes back to them."""
    embedded = embedded.clone().requires_grad_()
    table = model.encoder.embed_tokens if isinstance(model, T5EncoderModel) else model.get_input_embeddings()
    hook = table.register_forward_hook(lambda *_: embedded)
    states = model(torch.arange(embedded.shape[1])[None])[0]
    hook.remove()
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((states * weights).sum(), embedded)
    return states.detach(), gradient


@pytest.mark.parametrize("kept", FORMATS)
@pytest.mark.parametrize("kind", ENCODERS)
def test_states_and_gradients_are_those_of_the_encoder_in_fp32(kind: str, kept: torch.dtype) -> None:
    torch.manual_seed(0)
    stored = ENCODERS[kind]().eval().to(kept)
    whole = copy.deepcopy(stored).float().requires_grad_(False)
    embedded = torch.randn(1, 9, 32)
    for model in (upcast(copy.deepcopy(stored), kept), upcast_of(stored)):
        wanted, came = states_and_gradient(whole, embedded), states_and_gradient(model, embedded)
        assert all(map(torch.equal, wanted, came))
        assert len([one for one in model.modules() if isinstance(one, UpcastLinear)]) >= 8
        assert {one.dtype for one in model.parameters()} == {kept, torch.float32}
        assert {computes_in(one) for one in model.modules() if isinstance(one, nn.Linear)} == {torch.float32}
    assert {one.dtype for one in stored.parameters()} == {kept}  # what it is of stays what it was


def test_the_weights_of_two_are_in_memory_once() -> None:
    own = ENCODERS["CLIP"]().half()
    model = upcast_of(own)
    shared = [one for one in model.modules() if isinstance(one, UpcastLinear)]
    assert share_weights(own, model)
    assert not share_weights(own, upcast(copy.deepcopy(own), torch.float16))
    places = {one.data_ptr() for one in own.parameters()}
    assert all(one.weight.data_ptr() in places for one in shared)
    assert not any(one.data_ptr() in places for one in model.parameters() if one.dtype == torch.float32)


def folder_in(kept: torch.dtype | None, kind: str, place: Path) -> Path:
    """A tiny base, its text encoders saved in a format."""
    folder: Path = SAVE[kind](place)
    for component in TEXT[kind] if kept is not None else ():
        (file,) = (folder / component).glob("*.safetensors")
        save_file({name: one.to(kept) for name, one in load_file(file).items()}, file, {"format": "pt"})
    return folder


def encoders_of(base: Base) -> list[nn.Module]:
    beside = (getattr(base, field.name) for field in fields(base))
    models = [one for part in beside for one in (part if isinstance(part, tuple) else (part,))]
    return [
        model
        for model in models
        if isinstance(model, nn.Module) and any(isinstance(one, UpcastLinear) for one in model.modules())
    ]


def encoded(base: Base) -> tuple[torch.Tensor, ...]:
    said = base.encode([base.tokenise(["a photo of a cat in the snow"]), base.tokenise([""])])
    return tuple(one for one in (said.states, said.pooled) if one is not None)


@pytest.mark.parametrize("kept", FORMATS)
@pytest.mark.parametrize("kind", SAVE)
def test_a_base_encodes_what_it_encodes_in_fp32(
    kind: str, kept: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its files have 16 bits: those of the pipeline, and others."""
    folder = folder_in(kept, kind, tmp_path / "base")
    described = describe_base(str(folder))
    for dtype in ("bfloat16", "float16"):
        wanted = encoded(load_base(described, "cpu", dtype, "float32"))
        with monkeypatch.context() as patch:
            patch.setattr(upcasting, "LARGE", 0)
            base = load_base(described, "cpu", dtype, "float32")
        assert encoders_of(base)
        assert all(map(torch.equal, wanted, encoded(base)))
        own = base.pipe.text_encoder
        assert any(share_weights(own, ours) for ours in encoders_of(base)) == (own.dtype == kept)


def test_files_of_32_bits_stay_in_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = describe_base(str(folder_in(None, "pixart", tmp_path / "base")))
    wanted = encoded(load_base(described, "cpu", "bfloat16", "float32"))
    monkeypatch.setattr(upcasting, "LARGE", 0)
    base = load_base(described, "cpu", "bfloat16", "float32")
    assert encoders_of(base) == []
    assert all(map(torch.equal, wanted, encoded(base)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_files_of_both_round_nothing(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As transformers saves T5 in fp16: with the layers in fp32 that it computes so."""
    folder = save_tiny_pixart(tmp_path / "base")
    T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float16).save_pretrained(
        folder / "text_encoder"
    )
    formats = {one.dtype for one in load_file(folder / "text_encoder" / "model.safetensors").values()}
    assert formats == {torch.float16, torch.float32}
    described = describe_base(str(folder))
    wanted = encoded(load_base(described, "cpu", dtype, "float32"))
    monkeypatch.setattr(upcasting, "LARGE", 0)
    base = load_base(described, "cpu", dtype, "float32")
    assert encoders_of(base)
    assert all(map(torch.equal, wanted, encoded(base)))


@pytest.mark.parametrize("kept", FORMATS)
def test_a_base_in_one_file_does_too(
    kept: torch.dtype, tmp_path: Path, shared: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared("tiny-sdxl", save_tiny_sdxl)
    layout = tiny_layout(folder, LAYOUTS[3])
    monkeypatch.setattr(layouts, "LAYOUTS", (layout,))
    described = describe_base(str(save_one_file(folder, layout, tmp_path / "xl.safetensors", dtype=kept)))
    wanted = encoded(load_base(described, "cpu", "float16", "float32"))
    monkeypatch.setattr(upcasting, "LARGE", 0)
    base = load_base(described, "cpu", "float16", "float32")
    assert len(encoders_of(base)) == 2
    assert all(map(torch.equal, wanted, encoded(base)))


def test_what_changes_text_encoders_has_them_in_fp32(
    tmp_path: Path, shared: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upcasting, "LARGE", 0)
    folder = shutil.copytree(shared("tiny-sdxl", save_tiny_sdxl), tmp_path / "base")
    described = describe_base(str(folder))
    object.__setattr__(described.options, "left_out", {"text_encoder": 1})
    assert described.options.changes_text
    assert encoders_of(load_base(described, "cpu", "float16", "float32")) == []


@pytest.mark.slow
@pytest.mark.usefixtures("every_one_is_large")
@pytest.mark.parametrize("how", [None, "model", "group"])
def test_on_a_gpu_they_encode_and_the_pipeline_still_draws(how: Offload | None, tmp_path: Path) -> None:
    """Also offloaded, when hooks move the pipeline's own encoders and must not move these."""
    folder = folder_in(torch.float16, "sdxl", tmp_path / "base")
    here = load_base(describe_base(str(folder)), "cpu", "float16", "float32")
    with cuda_stand_in():
        there = load_base(describe_base(str(folder)), "cuda", "float16", "float32", how)
        for _ in range(2):
            came = encoded(there)
            there.pipe(prompt="a cat", num_inference_steps=1, output_type="latent", height=64, width=64)
        assert all((a.cpu() - b).abs().max() < 1e-4 for a, b in zip(came, encoded(here), strict=True))
