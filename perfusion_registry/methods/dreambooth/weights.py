"""What there is to learn of a base: all weights and biases of its denoiser, and of its text encoders.

A difference is named by what it changes, in a training and in an artifact: `denoiser.<module>.diff` of a
weight, in its shape, and `denoiser.<module>.diff_b` of a bias; of the text encoders `text_encoder.<module>`,
`text_encoder_2.<module>`, as files of transformers call their modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from perfusion_registry.base import Change, Changes
from perfusion_registry.base.quantised import shape_of

if TYPE_CHECKING:
    from perfusion_registry.base import Base

DENOISER = "denoiser"
KINDS = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm, nn.Embedding)
"""The modules whose weights can be changed."""
WEIGHT, BIAS = "diff", "diff_b"
_NAMES = {"weight": WEIGHT, "bias": BIAS}
_NAME = re.compile(r"(?P<model>denoiser|text_encoder(?:_2)?)\.(?P<module>.+)\.(?P<kind>diff|diff_b)")


def models(base: Base, *, text: bool) -> dict[str, nn.Module]:
    """What is learned, by name. text: with the text encoders."""
    return {DENOISER: base.denoiser, **(base.text_models if text else {})}


def shapes(base: Base, *, text: bool) -> dict[str, torch.Size]:
    """The shapes of all differences, by their names."""
    return {
        f"{model}.{_published(model, path)}.{_NAMES[name]}": _shape(module, name, own)
        for model, network in models(base, text=text).items()
        for path, module, name, own in _parameters(network)
        if _is_known(module, name)
    }


def unreached(base: Base, *, text: bool) -> str | None:
    """A parameter that no difference can change; None where there is none."""
    for network in models(base, text=text).values():
        for path, module, name, _ in _parameters(network):
            if not _is_known(module, name):
                return f"{path}.{name}".lstrip(".")
    return None


def changes(state: Mapping[str, Tensor]) -> dict[str, Changes]:
    """What the differences of a state change, by model and module."""
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    for key, tensor in state.items():
        if match := _NAME.fullmatch(key):
            found.setdefault(match["model"], {}).setdefault(match["module"], {})[match["kind"]] = tensor
    return {
        model: {path: Change(weight=own.get(WEIGHT), bias=own.get(BIAS)) for path, own in modules.items()}
        for model, modules in found.items()
    }


def device_of(base: Base, name: str) -> torch.device:
    """Where a difference is learned: where its model computes."""
    return base.device if name.startswith(f"{DENOISER}.") else base.text_device


def _parameters(network: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    for path, module in network.named_modules():
        for name, own in module.named_parameters(recurse=False):
            yield path, module, name, own


def _shape(module: nn.Module, name: str, own: Tensor) -> torch.Size:
    """Of a quantised weight that of what it stands for."""
    return shape_of(module) if name == "weight" else own.shape


def _is_known(module: nn.Module, name: str) -> bool:
    return isinstance(module, KINDS) and name in _NAMES


def _published(model: str, path: str) -> str:
    """The module as files call it: newer transformers have a text encoder's layers one level higher."""
    if model == DENOISER or path.startswith(("text_model.", "text_projection")):
        return path
    return f"text_model.{path}"
