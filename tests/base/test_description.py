"""Bases are described from their files alone, and faults are found before anything is loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from perfusion_registry.base import Bank, Base, describe_base
from perfusion_registry.base.architectures.cross_attention import cross_attention_shapes
from perfusion_registry.base.weights import tensor_entries
from perfusion_registry.errors import PerfError
from tests.tiny import save_tiny_base

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def folder(tiny_base_folder: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(tiny_base_folder, tmp_path / "base")


def test_files_are_those_that_matter_with_their_digests(folder: Path) -> None:
    (folder / "README.md").write_text("not part of the base")
    (folder / "covariance.safetensors").write_bytes(b"pinned on its own")
    description = describe_base("./base", root=folder.parent)
    assert description.repo == "./base"
    assert description.revision is None
    paths = [file.path for file in description.files]
    assert paths == sorted(paths)
    assert {UNET, TEXT, "model_index.json", "perf-base.toml", "clip/model.safetensors"} < set(paths)
    assert not {"README.md", "covariance.safetensors"} & set(paths)
    for file in description.files:
        data = (folder / file.path).read_bytes()
        assert (file.sha256, file.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert description.card.render["steps"] == 2
    assert description.covariance == folder / "covariance.safetensors"


def test_it_needs_neither_torch_nor_diffusers(tiny_base_folder: Path) -> None:
    program = (
        "import sys; from perfusion_registry.base import BaseReference, describe_base;"
        f"print(describe_base({str(tiny_base_folder)!r}).digest);"
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [describe_base(str(tiny_base_folder)).digest, "[]"]


def test_the_family_sees_the_same_layers_as_the_bank(tiny_base: Base, tiny_base_folder: Path) -> None:
    shapes = cross_attention_shapes(tensor_entries(tiny_base_folder / UNET))
    bank: Bank = tiny_base.bank
    assert shapes == [
        (
            layer.path,
            layer.key_slice.stop - layer.key_slice.start,
            layer.value_slice.stop - layer.value_slice.start,
            bank.W.shape[1],
        )
        for layer in bank.layers
    ]


def halve(path: Path) -> None:
    save_file({name: tensor.astype(np.float16) for name, tensor in load_file(path).items()}, path)


def rename(path: Path) -> None:
    """As transformers 4 named them."""
    tensors = {f"text_model.{name}": tensor for name, tensor in load_file(path).items()}
    tensors["text_model.embeddings.position_ids"] = np.arange(77)
    save_file(tensors, path, metadata={"format": "pt"})


def fine_tune(path: Path) -> None:
    save_file({name: tensor * np.float32(1.01) for name, tensor in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("file", "change", "same_family"),
    [
        (UNET, fine_tune, True),
        (TEXT, halve, True),
        (TEXT, rename, True),
        (TEXT, fine_tune, False),
    ],
)
def test_what_makes_a_family(
    folder: Path, file: str, change: Callable[[Path], None], same_family: bool
) -> None:
    before = describe_base(str(folder))
    change(folder / file)
    after = describe_base(str(folder))
    assert after.digest != before.digest
    assert (after.family == before.family) is same_family


def test_another_seed_is_another_family(tiny_base_folder: Path, tmp_path: Path) -> None:
    again = describe_base(str(save_tiny_base(tmp_path / "again")))
    other = describe_base(str(save_tiny_base(tmp_path / "other", seed=1)))
    first = describe_base(str(tiny_base_folder))
    assert (again.digest, again.family) == (first.digest, first.family)
    assert other.family != first.family


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def garble(path: Path) -> None:
    path.write_bytes(b"\xff" * 1000)


def rewrite(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("model_index.json", Path.unlink, "not a diffusers folder"),
        ("model_index.json", garble, "cannot be read as JSON"),
        ("model_index.json", lambda path: path.write_text("[]"), "JSON object"),
        ("model_index.json", lambda path: path.write_text("[" * 100_000), "cannot be read as JSON"),
        ("model_index.json", rewrite(tokenizer=["transformers", 5]), "which class its `tokenizer` has"),
        ("model_index.json", rewrite(scheduler=["diffusers"]), "which class its `scheduler` has"),
        (
            "model_index.json",
            rewrite(unet=[None, None], transformer=["diffusers", "X"]),
            "a transformer instead",
        ),
        ("model_index.json", rewrite(unet=["diffusers", "UNet2DModel"]), "no UNet with text"),
        (
            "model_index.json",
            rewrite(text_encoder_2=["transformers", "CLIPTextModel"]),
            "two CLIP text models of SDXL",
        ),
        (
            "model_index.json",
            rewrite(text_encoder=["transformers", "T5EncoderModel"]),
            "not a CLIP text model",
        ),
        ("model_index.json", rewrite(vae=["diffusers", "AutoencoderTiny"]), "is an AutoencoderTiny"),
        ("unet/config.json", rewrite(in_channels=8), "takes 8 channels and a latent has 4"),
        (UNET, Path.unlink, "unet has no safetensors weights"),
        (UNET, lambda path: path.rename(path.with_suffix(".bin")), "only pickled ones"),
        (UNET, cut, "not a whole safetensors file"),
        (UNET, garble, "not a whole safetensors file"),
        (UNET, lambda path: path.write_bytes(b""), "not a whole safetensors file"),
        (UNET, lambda path: path.write_bytes(b"\x02" + bytes(7) + b"[]"), "header is not a JSON object"),
        (UNET, lambda path: save_file({"a": np.zeros(3)}, path), "no text cross-attention"),
        (TEXT, cut, "not a whole safetensors file"),
        ("text_encoder/config.json", Path.unlink, "config.json"),
        ("perf-base.toml", lambda path: path.write_text("[train\n"), "card cannot be read"),
        ("perf-base.toml", lambda path: path.write_text("[trian]\nsteps = 3"), "trian"),
        ("perf-base.toml", lambda path: path.write_text('clip = "../../etc"'), "within the base's folder"),
    ],
)
def test_faults_are_told_with_their_place(
    folder: Path, file: str, change: Callable[[Path], object], message: str
) -> None:
    change(folder / file)
    with pytest.raises(PerfError, match=message) as caught:
        describe_base(str(folder))
    assert str(folder) in str(caught.value.where)


def test_a_sharded_model_is_described_by_all_its_parts(folder: Path) -> None:
    whole = describe_base(str(folder))
    tensors = load_file(folder / UNET)
    names = sorted(tensors)
    parts = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for part, own in parts.items():
        save_file({name: tensors[name] for name in own}, folder / "unet" / part)
    weight_map = {name: part for part, own in parts.items() for name in own}
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    (folder / UNET).unlink()
    sharded = describe_base(str(folder))
    assert sharded.family == whole.family
    assert {"unet/a.safetensors", "unet/b.safetensors"} < {file.path for file in sharded.files}
    index.write_text(json.dumps({"weight_map": {"x": "../../secret.safetensors"}}))
    with pytest.raises(PerfError, match="outside its folder"):
        describe_base(str(folder))


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(PerfError, match="does not exist") as caught:
        describe_base("./nowhere", root=tmp_path)
    assert caught.value.where == str(tmp_path / "nowhere")
