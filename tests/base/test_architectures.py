"""One file knows how a kind of base is built, and other distributions may bring further ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import perfusion_registry
from perfusion_registry.base.architecture import Architecture
from perfusion_registry.base.architectures import ARCHITECTURES, architecture

PACKAGE = Path(perfusion_registry.__file__).parent
# A pipeline's parts, the classes of pipelines and denoisers, and how to ask one: architectures' business.
INSIDE = re.compile(
    r"\bpipe\.(unet|vae|text_encoder|tokenizer|transformer)|\.(vae|unet)\.|\w+Pipeline\b|UNet2D\w+|AutoencoderKL"
    r"|alphas_cumprod|encoder_hidden_states|get_input_embeddings|to_[kv]\.weight"
)
# Where a base is made of nothing, and what stands between architectures and diffusers.
KNOWING = ("base/architectures/", "storybook/training/", "storybook2/training/")
SHARED = {"base/attention.py", "base/autoencoder.py", "base/objective.py", "base/text_encoding.py"}
SHARED |= {"base/upscaler.py"}  # whose subject is a pipeline of its own
SHARED |= {"base/controls.py", "base/pretrained.py", "base/regions.py"}
SHARED |= {"base/offloading.py", "base/side_files.py"}  # hooks of diffusers on a pipeline; names in files


def test_nobody_else_looks_into_a_pipeline() -> None:
    told = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(KNOWING) or name in SHARED:
            continue
        told += [
            f"{name}:{number}: {line.strip()}"
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            if INSIDE.search(line)
        ]
    assert told == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_of_the_table_is_one(name: str) -> None:
    found = architecture(name)
    assert isinstance(found, Architecture)
    assert found.name == name
