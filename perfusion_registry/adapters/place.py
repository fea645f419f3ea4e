"""The file of an adapter, found and its header read: one safetensors file, or peft's folder.

Importing this needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import Header, HeaderError, read_header

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_DIFFUSERS = "pytorch_lora_weights.safetensors"
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
_NUMBERS = (*_FLOATS, "I64", "I32", "I16", "I8", "U8")


@dataclass(frozen=True)
class Opened:
    """A file of adapters. file: its tensors'. header: of it. configuration: peft's, of a folder."""

    file: Path
    header: Header
    configuration: Mapping[str, Any]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of its tensors, by key."""
        return {key: entry.shape for key, entry in self.header.tensors.items()}


def open_file(path: Path) -> Opened:
    """Find and read a header: of a safetensors file, or of a folder as peft or diffusers saves one.

    Raises PerfError for a pickle, which is never opened, for what is not there or not whole, and for tensors
    that are no numbers.
    """
    file, configuration = path, {}
    if path.is_dir():
        names = [name for name in (_WEIGHTS, _DIFFUSERS) if (path / name).is_file()]
        if not names:
            pickled = next((one.name for one in sorted(path.glob("*")) if one.suffix in PICKLES), None)
            if pickled is not None:
                raise _pickle(path / pickled)
            raise PerfError(
                f"there is no {_WEIGHTS} and no {_DIFFUSERS} in this folder",
                where=str(path),
                hint="name the LoRA's safetensors file",
            )
        file = path / names[0]
    if file.suffix.lower() in PICKLES:
        raise _pickle(file)
    if file.name == _WEIGHTS and (file.parent / _CONFIG).exists():
        configuration = _configuration(file.parent / _CONFIG)
    try:
        header = read_header(file)
    except HeaderError as error:
        raise PerfError(
            f"this is no whole safetensors file: {error}",
            where=str(file),
            hint="fetch it again; pickles have to be converted first",
        ) from error
    except OSError as error:
        what = f"the file cannot be read: {error.strerror or error}"
        raise PerfError(what, where=str(file), hint="name a safetensors file that you can read") from error
    for key, entry in header.tensors.items():
        allowed = _NUMBERS if key.endswith(".alpha") else _FLOATS
        if entry.dtype not in allowed:
            raise PerfError(
                f"its tensor `{key[:100]}` is {entry.dtype[:20]}, and an adapter has floating-point numbers",
                where=str(file),
                hint="take one that is not quantised",
            )
    return Opened(file, header, configuration)


def _pickle(path: Path) -> PerfError:
    convert = (
        f"import torch, safetensors.torch as s; d = torch.load('{path.name}', weights_only=True); "
        "v = d.get('string_to_param'); "  # A1111's embeddings have theirs in there
        f"s.save_file({{'emb_params': v['*'].data}} if v else d, '{path.stem}.safetensors')"
    )
    return PerfError(
        "this is a pickle, which can run anything when it is opened, and perf never opens one",
        where=str(path),
        hint=f'convert it to safetensors: python -c "{convert}"',
    )


def _configuration(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise PerfError(
            "peft's adapter_config.json cannot be read, and it says how strong the adapter is",
            where=str(path),
            hint="fetch it again",
        )
    return content
