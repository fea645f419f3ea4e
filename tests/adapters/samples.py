"""Random adapters of every kind, as LyCORIS' own modules hold them, and the bases that they are for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lycoris.modules.full import FullModule
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from torch import Tensor, nn

from perfusion_registry.adapters.modules import Modules, modules_of
from perfusion_registry.base.layouts import LAYOUTS
from tests.sdxl import WIDTHS, xl_unet
from tests.tiny import tiny_unet

KINDS: Mapping[str, tuple[type, dict[str, Any]]] = {
    "lora": (LoConModule, {}),
    "lora_mid": (LoConModule, {"use_tucker": True}),
    "dora": (LoConModule, {"weight_decompose": True}),
    "dora of inputs": (LoConModule, {"weight_decompose": True, "wd_on_out": False}),
    "loha": (LohaModule, {}),
    "loha with kernels": (LohaModule, {"use_tucker": True}),
    "loha, decomposed": (LohaModule, {"weight_decompose": True}),
    "lokr": (LokrModule, {"factor": 4}),
    "lokr, factored twice": (LokrModule, {"factor": 4, "decompose_both": True}),
    "lokr, whole": (LokrModule, {"factor": 4, "full_matrix": True}),
    "lokr with a kernel": (LokrModule, {"factor": 4, "use_tucker": True}),
    "lokr, decomposed": (LokrModule, {"factor": 4, "weight_decompose": True}),
    "full": (FullModule, {}),
}
LAYERS: Mapping[str, tuple[int, ...]] = {
    "linear": (32, 24),
    "1x1": (32, 24, 1, 1),
    "3x3": (32, 24, 3, 3),
}


def layer_of(shape: tuple[int, ...]) -> Any:
    """A random layer whose weight has that shape, in fp64."""
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0]).double()
    return nn.Conv2d(shape[1], shape[0], shape[2], padding=shape[2] // 2).double()


def lycoris_of(kind: str, layer: nn.Module, rank: int = 3, alpha: float = 1.5) -> Any:
    """LyCORIS' module of that kind over a layer, with random values, in fp64."""
    made, options = KINDS[kind]
    sizes = {} if made is FullModule else {"lora_dim": rank, "alpha": alpha}
    module = made("adapter", layer, 1.0, **sizes, **options).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "dora" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
            else:
                parameter.copy_(parameter + 0.2 * torch.randn_like(parameter))
    if made is FullModule:
        module.is_diff = True
        module.org_forward = layer.forward
        module.weight.data, module.bias.data = (
            0.1 * torch.randn_like(layer.weight),
            torch.zeros_like(layer.bias),
        )
    else:
        for name in ("dora_scale",):
            if getattr(module, name, None) is not None:
                module.dora_scale = module.dora_scale.double()
    return module


def file_tensors(module: Any) -> dict[str, Tensor]:
    """What LyCORIS writes of a module, by the names that its files have after the module's."""
    if isinstance(module, FullModule):
        return {"diff": module.weight.detach().clone()}
    return {name: value.detach().clone().contiguous() for name, value in module.custom_state_dict().items()}


def difference_of(module: Any, layer: Any) -> Tensor:
    """The change of a layer's weight that LyCORIS' forward has: by what it answers to one input after the
    other."""
    shape = layer.weight.shape
    inputs = torch.eye(shape[1], dtype=torch.float64)
    if len(shape) > 2:  # one pixel in the middle shows the kernel turned around
        size = shape[2]
        pixels = torch.zeros(shape[1], shape[1], size, size, dtype=torch.float64)
        pixels[:, :, size // 2, size // 2] = inputs
        inputs = pixels
    with torch.no_grad():
        answer = module(inputs) - layer(inputs)
    return answer.T if len(shape) == 2 else answer.flip(-1, -2).transpose(0, 1)


@cache
def tiny_modules() -> Modules:
    """Of the tiny base in Stable Diffusion's layout."""
    return modules_of({"unet": dict(tiny_unet().config), "text_encoder": _clip(32, 2)})


@cache
def tiny_sdxl_modules() -> Modules:
    """Of the tiny base in SDXL's layout."""
    second = {
        **_clip(WIDTHS[1], 3),
        "architectures": ["CLIPTextModelWithProjection"],
        "projection_dim": WIDTHS[1],
    }
    return modules_of(
        {"unet": dict(xl_unet().config), "text_encoder": _clip(WIDTHS[0], 3), "text_encoder_2": second}
    )


@cache
def real_modules(called: str) -> Modules:
    """Of a real base: Stable Diffusion 1, Stable Diffusion 2 or SDXL."""
    folder = next(layout.folder for layout in LAYOUTS if layout.called == called)
    return modules_of(
        {name: configuration(folder / name) for name in ("unet", "text_encoder", "text_encoder_2")
         if (folder / name).is_dir()}
    )  # fmt: skip


def configuration(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def _clip(width: int, layers: int) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers}
