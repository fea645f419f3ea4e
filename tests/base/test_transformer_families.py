"""Which bases with a transformer are one family, and which are none: told from their files, without torch."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from perfusion_registry.base import describe_base, load_base, require_trainable, wrap
from perfusion_registry.base.architectures import tokenizers
from perfusion_registry.base.description import check_base
from perfusion_registry.errors import PerfError
from tests.anima import save_tiny_anima
from tests.transformer_bases import KINDS, Kind

DENOISER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(kind: Kind, shared: Callable[..., Path]) -> Path:
    return shared(f"tiny-{kind.name}", kind.save)


def changed(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def configured(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_it_is_described_without_torch(folder: Path, kind: Kind) -> None:
    program = (
        "import sys\nfrom perfusion_registry.base import describe_base\n"
        f"print(describe_base({str(folder)!r}).architecture)\n"
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split("\n")[:2] == [kind.name, "[]"]


def test_formats_and_divisions_of_the_files_make_no_difference(
    folder: Path, kind: Kind, tmp_path: Path
) -> None:
    family = describe_base(str(folder)).family
    base = load_base(describe_base(str(folder)), device="cpu", dtype="float32", compute_dtype="float32")
    other = shutil.copytree(folder, tmp_path / "other")
    shutil.rmtree(other / "text_encoder")
    text = copy.deepcopy(base.pipe.text_encoder)
    text.half().save_pretrained(other / "text_encoder", max_shard_size="5KB")
    assert len(list((other / "text_encoder").glob("*-of-*.safetensors"))) > 1
    described = describe_base(str(other))
    assert described.family == family
    assert described.text_weights == describe_base(str(folder)).text_weights
    opened = load_base(described, device="cpu", dtype="float32", compute_dtype="float32")
    assert wrap(opened.pipe).description.family == family
    halves = copy.copy(base.pipe)
    halves.text_encoder = copy.deepcopy(base.pipe.text_encoder).half()
    assert wrap(halves).description.family == family
    halves.text_encoder.bfloat16()
    with pytest.raises(PerfError, match="lost too many digits"):
        wrap(halves)
    assert wrap(halves, describe_base(str(folder))).description.family == family


def test_all_that_text_passes_through_is_of_the_family(folder: Path, kind: Kind, tmp_path: Path) -> None:
    """A covariance is of it too; what a denoiser does with text is not."""
    plain = describe_base(str(folder))
    passed = {
        "pixart-sigma": [("text_encoder/model.safetensors", ""), (DENOISER, "caption_projection.")],
        "anima": [
            ("text_encoder/model.safetensors", ""),
            ("text_conditioner/diffusion_pytorch_model.safetensors", ""),
        ],
    }[kind.name]
    for number, (file, prefix) in enumerate(passed):
        other = shutil.copytree(folder, tmp_path / str(number))

        def shift(tensors: dict[str, torch.Tensor], prefix: str = prefix) -> None:
            name = next(name for name in sorted(tensors) if name.startswith(prefix))
            tensors[name] += 0.1

        changed(other / file, shift)
        described = describe_base(str(other))
        assert described.family != plain.family
        assert described.text_weights != plain.text_weights
    tuned = shutil.copytree(folder, tmp_path / "tuned")
    changed(tuned / DENOISER, lambda tensors: tensors["transformer_blocks.0.attn2.to_k.weight"].add_(0.1))
    assert describe_base(str(tuned)).family == plain.family
    assert describe_base(str(tuned)).digest != plain.digest


def test_parts_that_do_not_fit_are_told(folder: Path, kind: Kind, tmp_path: Path) -> None:
    denoiser = "transformer/config.json"
    cases: dict[str, list[tuple[str, dict[str, Any], str]]] = {
        "pixart-sigma": [
            (denoiser, {"caption_channels": 32}, "it reads 32 numbers of each token, and gets 24"),
            (denoiser, {"in_channels": 9}, "transformer takes 9 channels and a latent has 4"),
            (denoiser, {"use_additional_conditions": True}, "also told the size of each picture"),
        ],
        "anima": [
            (denoiser, {"text_embed_dim": 16}, "16 numbers of each token are read, and there are 32"),
            (denoiser, {"in_channels": 16}, "16 channels of a latent are read, and there are 4"),
            (denoiser, {"img_context_dim_in": 8}, "takes what Anima's does not"),
            ("text_conditioner/config.json", {"source_dim": 8}, "8 numbers of what Qwen says are read"),
            ("text_conditioner/config.json", {"min_sequence_length": 77}, "have 77 positions"),
        ],
    }
    for number, (file, values, said) in enumerate(cases[kind.name]):
        other = shutil.copytree(folder, tmp_path / str(number))
        configured(other / file, **values)
        with pytest.raises(PerfError, match=said):
            describe_base(str(other))


def test_what_cannot_be_trained_on_is_told_before_any_work(
    folder: Path, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_base(str(folder))
    other = shutil.copytree(folder, tmp_path / "base")
    scheduler = "EDMEulerScheduler" if kind.name == "pixart-sigma" else "DDIMScheduler"
    configured(other / "scheduler" / "scheduler_config.json", _class_name=scheduler)
    with pytest.raises(PerfError, match=f"no concept can be trained on this base: .* {scheduler}"):
        require_trainable(describe_base(str(other)))
    for number, component in enumerate(["tokenizer"] if kind.name == "pixart-sigma" else ["t5_tokenizer"]):
        other = shutil.copytree(folder, tmp_path / str(number))
        (other / component / "tokenizer.json").unlink()
        with pytest.raises(PerfError, match=f"the base has no {component}") as caught:
            check_base(str(other))
        assert "put the tokenizer's files there" in str(caught.value.hint)
        (other / component / "spiece.model").write_bytes(b"of SentencePiece")
        monkeypatch.setattr(tokenizers, "_there", lambda module: module == "google.protobuf")
        with pytest.raises(PerfError, match=r"as spiece\.model alone, and to read that needs sentencepiece"):
            load_base(describe_base(str(other)), device="cpu")


def test_another_pipeline_of_the_same_parts_is_refused(folder: Path, kind: Kind, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "base")
    (index,) = other.glob("*model_index.json")
    if kind.name == "pixart-sigma":
        configured(index, _class_name="PixArtAlphaPipeline")
    else:
        configured(index, text_encoder=["transformers", "Qwen2Model", {}])
    with pytest.raises(PerfError, match="it draws with a transformer instead of a UNet, of a kind"):
        describe_base(str(other))


def test_pixarts_own_name_of_its_transformer_is_known(shared: Callable[..., Path], tmp_path: Path) -> None:
    own = shared("tiny-pixart-sigma", KINDS["pixart-sigma"].save)
    other = shutil.copytree(own, tmp_path / "base")
    configured(other / "model_index.json", transformer=["diffusers", "Transformer2DModel"])
    configured(other / "transformer" / "config.json", _class_name="Transformer2DModel")
    base = load_base(describe_base(str(other)), device="cpu", dtype="float32", compute_dtype="float32")
    assert type(base.denoiser).__name__ == "PixArtTransformer2DModel"
    assert base.description.family == describe_base(str(own)).family


def test_a_modular_index_of_what_was_never_loaded_says_the_classes_too(
    shared: Callable[..., Path], tmp_path: Path
) -> None:
    """As published: with the class that was meant, and where each part is from."""
    own = shared("tiny-anima", KINDS["anima"].save)
    other = shutil.copytree(own, tmp_path / "base")
    index = other / "modular_model_index.json"
    told = json.loads(index.read_text())
    for name, said in told.items():
        if isinstance(said, list):
            told[name] = [None, None, said[2] | {"type_hint": said[:2]}]
    index.write_text(json.dumps(told))
    assert describe_base(str(other)).architecture == "anima"
    assert describe_base(str(other)).family == describe_base(str(own)).family


def test_animas_edges_need_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own transformer has a channel for them. Where torchvision is missing, that is told; where it is
    there, or something that resizes as it does, the denoiser is the stock one."""
    from diffusers.models.transformers import transformer_cosmos

    from perfusion_registry.base.architectures import anima

    folder = save_tiny_anima(tmp_path / "base", edges=True)
    monkeypatch.setattr(anima, "find_spec", lambda name: None)
    for ask in (check_base, lambda name: load_base(describe_base(name), device="cpu")):
        with pytest.raises(PerfError, match="diffusers needs torchvision to run Anima's transformer"):
            ask(str(folder))

    class Resizing:
        @staticmethod
        def resize(mask: torch.Tensor, size: list[int], interpolation: object) -> torch.Tensor:
            return torch.nn.functional.interpolate(mask, size)

    class Transforms:
        functional = Resizing
        InterpolationMode = type("InterpolationMode", (), {"NEAREST": None})

    monkeypatch.setattr(anima, "find_spec", lambda name: object())
    monkeypatch.setattr(transformer_cosmos, "transforms", Transforms, raising=False)
    base = load_base(describe_base(str(folder)), device="cpu", dtype="float32", compute_dtype="float32")
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), base.exclusive():
        ours = base.denoise(x, torch.tensor([300.0]), base.encode([base.tokenise(["a teddy"])] * 2))
        assert torch.equal(ours, KINDS["anima"].ask(base, x, 0.3, ["a teddy"] * 2))
