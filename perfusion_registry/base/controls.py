"""The controls of a loaded base: read when a picture first asks for them, and kept as long as the base."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from safetensors.torch import load_file
from torch import Tensor, nn

from perfusion_registry.base.architectures.unet import reader_of
from perfusion_registry.base.control_shapes import AdapterShape
from perfusion_registry.base.interface import Base
from perfusion_registry.base.offload_hooks import CPU
from perfusion_registry.base.options import ControlPart
from perfusion_registry.base.pretrained import BROKEN, load_pretrained, move, quiet
from perfusion_registry.base.readers import Reader
from perfusion_registry.base.weights import weight_variants
from perfusion_registry.errors import PerfError
from perfusion_registry.reporter import Reporter, Silent
from perfusion_registry.safetensors_header import read_header

# Where CompVis has what an SDXL is told of a picture's size, which diffusers' converter leaves out.
_SIZES = {
    f"{at}.{end}": f"linear_{number}.{end}" for at, number in ((0, 1), (2, 2)) for end in ("weight", "bias")
}

_loaded: WeakKeyDictionary[Base, dict[str, nn.Module]] = WeakKeyDictionary()


def networks(
    base: Base, controls: Sequence[ControlPart], reporter: Reporter | None = None
) -> list[nn.Module]:
    """The networks of controls, in the format and on the device of the base, frozen.

    Raises PerfError for weights that are missing, and where the device has too little memory.
    """
    there = _loaded.setdefault(base, {})
    for one in controls:
        if one.part.digest not in there:
            with (reporter or Silent()).stage(f"Loading {one.part.said}"):
                network = _load(base, one)
                move([network], base.device if base.offload is None else CPU)
            there[one.part.digest] = network
    return [there[one.part.digest] for one in controls]


def readers(networks: Sequence[nn.Module]) -> list[Reader]:
    """What of them reads the prompt, and what only one thread may use at a time; each once."""
    return [reader_of(network) for network in dict.fromkeys(networks)]


def _load(base: Base, control: ControlPart) -> nn.Module:
    with quiet():
        from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter

    kinds = {"controlnet": ControlNetModel, "union": ControlNetUnionModel, "adapter": T2IAdapter}
    kind: Any = kinds[control.kind]
    place, what = control.part.place, f"the control {control.part.said!r}"
    network: nn.Module
    if place.is_dir():
        network = load_pretrained(kind, place, what, variant=weight_variants(place)[0])
    else:
        tensors = load_file(place)
        if control.kind == "adapter":
            layout = _adapter_layout(place)
        else:
            layout = _layout(kind, base.pipe.unet)
            tensors = _converted(tensors, layout)
            layout |= _sizes(tensors)
        network = _of_file(kind, layout, tensors, place, what)
    with quiet():
        return network.to(base.dtype)


def _of_file(
    kind: Any, layout: Mapping[str, Any], tensors: Mapping[str, Tensor], file: Path, what: str
) -> nn.Module:
    """A network of class `kind` with the tensors of a file. Raises PerfError where they are not its own."""
    with quiet():
        network: nn.Module = kind.from_config(layout)
    own = network.state_dict()
    absent, strange = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    other = [name for name, tensor in tensors.items() if name in own and tensor.shape != own[name].shape]
    for names, told in (
        (absent, "lacks"),
        (strange, "has more than its kind has, such as"),
        (other, "has another"),
    ):
        if names:
            raise PerfError(f"{what} {told} {names[0]}", where=str(file), hint=BROKEN)
    network.load_state_dict(tensors)
    return network


def _converted(tensors: Mapping[str, Tensor], layout: Mapping[str, Any]) -> dict[str, Tensor]:
    """A ControlNet's tensors as diffusers calls them, of a file with CompVis' names or with those."""
    with quiet():
        from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    named = {name.removeprefix("control_model."): tensor for name, tensor in tensors.items()}
    converted = convert_controlnet_checkpoint(dict(named), config=layout)
    sizes = {f"add_embedding.{end}": named.get(f"label_emb.0.{at}") for at, end in _SIZES.items()}
    return {name: tensor for name, tensor in {**sizes, **converted}.items() if tensor is not None}


def _layout(kind: Any, unet: Any) -> dict[str, Any]:
    """The configuration of a ControlNet for a UNet."""
    takes = inspect.signature(kind.__init__).parameters
    own = {key: value for key, value in unet.config.items() if key in takes}
    return own | {"in_channels": unet.config.out_channels, "conditioning_channels": 3}


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What of a ControlNet's configuration its tensors say."""
    embedding = "controlnet_cond_embedding"
    pairs = sum(name.startswith(f"{embedding}.blocks.") for name in tensors) // 4
    odd = [tensors[f"{embedding}.blocks.{2 * at + 1}.weight"] for at in range(pairs)]
    first = tensors[f"{embedding}.conv_in.weight"]
    sizes: dict[str, Any] = {"conditioning_embedding_out_channels": [len(one) for one in (first, *odd)]}
    if "task_embedding" in tensors:  # of a union
        layers = {name.split(".")[1] for name in tensors if name.startswith("transformer_layes.")}
        sizes["num_control_type"], sizes["num_trans_channel"] = tensors["task_embedding"].shape
        sizes["num_trans_layer"] = len(layers)
        sizes["num_proj_channel"] = len(tensors["spatial_ch_projs.weight"])
    return sizes


def _adapter_layout(file: Path) -> dict[str, Any]:
    """The configuration of a T2I-Adapter in a file."""
    shape = AdapterShape.of_tensors(read_header(file).tensors)
    assert shape is not None  # or it would not have been found
    return {
        "in_channels": shape.picture,
        "channels": list(shape.features),
        "num_res_blocks": shape.blocks,
        "downscale_factor": shape.multiple,
        "adapter_type": "full_adapter_xl" if shape.xl else "full_adapter",
    }
