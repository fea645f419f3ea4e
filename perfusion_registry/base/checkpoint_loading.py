"""From one safetensors file to a diffusers pipeline, its text encoders in fp32 beside it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from tokenizers.pre_tokenizers import ByteLevel

from perfusion_registry.base.checkpoint import CheckpointFiles
from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.layouts import END, START, Layout
from perfusion_registry.base.pretrained import BROKEN, from_single_file, quiet, wider_unet
from perfusion_registry.base.upcasting import is_large, kept_format, upcast
from perfusion_registry.base.weights import plain_name
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from torch import nn


def load_checkpoint(
    kind: Any, description: BaseDescription, dtype: torch.dtype, **options: Any
) -> tuple[Any, list[Any]]:
    """A pipeline of class `kind`, and its text encoders in fp32: the pipeline's own where it has them so.

    options: further components. Raises PerfError where the file lacks weights.
    """
    files = checkpoint_files(description)
    in_fp32 = {one.component: _text_encoder(files, one.component) for one in files.layout.encoders}
    parts: dict[str, Any] = {
        name: encoder if dtype == torch.float32 else copy.deepcopy(encoder).to(dtype)
        for name, encoder in in_fp32.items()
    }
    parts |= {one.tokenizer: clip_tokenizer(files.layout, one.component) for one in files.layout.encoders}
    parts["scheduler"] = checkpoint_scheduler(files)
    layout = json.loads((files.layout.folder / "unet" / "config.json").read_text(encoding="utf-8"))
    channels = files.configuration("unet")["in_channels"]
    if channels != layout["in_channels"] and "unet" not in options:  # for inpainting
        parts["unet"] = wider_unet(files.file, files.layout.folder, channels, dtype)
    pipe = from_single_file(kind, files.file, files.layout.folder, dtype, **parts, **options)
    if dtype == torch.float32:  # which the pipeline then has itself
        return pipe, list(in_fp32.values())
    return pipe, [_kept(description, files, name, encoder) for name, encoder in in_fp32.items()]


def load_text_encoder(description: BaseDescription, component: str) -> nn.Module:
    """One of a base's text encoders, which computes in fp32."""
    files = checkpoint_files(description)
    return _kept(description, files, component, _text_encoder(files, component))


def load_tokenizer(description: BaseDescription, component: str) -> Any:
    """One of its tokenizers."""
    layout = checkpoint_files(description).layout
    (encoder,) = (one for one in layout.encoders if one.tokenizer == component)
    return clip_tokenizer(layout, encoder.component)


def checkpoint_files(description: BaseDescription) -> CheckpointFiles:
    """What a base in one file is, as it was described."""
    prediction = description.prediction
    assert prediction is not None
    files = CheckpointFiles.open(description.folder, prediction.asked_again)
    return replace(files, left_out=description.options.left_out)


def _text_encoder(files: CheckpointFiles, component: str) -> nn.Module:
    with quiet():
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        kinds = {kind.__name__: kind for kind in (CLIPTextModel, CLIPTextModelWithProjection)}
        model: nn.Module = kinds[files.classes[component]](CLIPTextConfig(**files.configuration(component)))
    parts = files.text_parts(component)
    own = {plain_name(name): name for name, _ in model.named_parameters()}
    absent = sorted(own.keys() - parts.keys())
    if absent:
        raise PerfError(
            f"the file has {len(absent)} tensors too few for a {component}, such as {absent[0]}",
            where=str(files.file),
            hint=BROKEN,
        )
    with files.file.open("rb") as opened, torch.no_grad():
        for name, parameter in model.named_parameters():
            numbers = parts[plain_name(name)].read(opened)
            if numbers.shape != parameter.shape:
                raise PerfError(
                    f"a {component}'s {name} should be {tuple(parameter.shape)}, and is {numbers.shape}",
                    where=str(files.file),
                    hint=BROKEN,
                )
            parameter.copy_(torch.from_numpy(numbers.astype("f4")))
    return model.eval()


def _kept(
    description: BaseDescription, files: CheckpointFiles, component: str, encoder: nn.Module
) -> nn.Module:
    """A text encoder as it stays in memory: a large one with the file's own numbers, where these have 16 bits
    (`base.upcasting`)."""
    kept = kept_format({part.entry.dtype for part in files.text_parts(component).values()})
    if kept is None or not is_large(encoder) or description.options.changes_text:
        return encoder
    return upcast(encoder, kept)


def clip_tokenizer(layout: Layout, component: str) -> Any:
    """CLIP's: bytes, bytes that end a word, the merges of the vocabulary, and the start and end of a text."""
    with quiet():
        from transformers import CLIPTokenizer

    lines = layout.vocabulary.read_text(encoding="utf-8").splitlines()[1:]
    merges = [tuple(line.split(" ")) for line in lines]
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    padding = layout.encoder(component).padding
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, pad_token=padding)


def checkpoint_scheduler(files: CheckpointFiles) -> Any:
    """A fresh scheduler of the file's kind, for what it predicts."""
    import diffusers

    config = dict(files.scheduler)
    return getattr(diffusers, config["_class_name"]).from_config(config)
