"""An upscaler that lies in a base's folder: a diffusers pipeline that enlarges what the base has drawn."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from perfusion_registry.base.digest import file_digest
from perfusion_registry.base.identity import BaseDescription, BaseIdentity
from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    from PIL import Image

    from perfusion_registry.base.interface import Base

FOLDER = "upscaler"
"""Where it lies in the folder of a base."""

_INDEX = "model_index.json"
_KINDS: dict[str, dict[str, Any]] = {
    "StableDiffusionLatentUpscalePipeline": {"guidance_scale": 0.0},
    "StableDiffusionUpscalePipeline": {},
}
"""Pipelines of diffusers that enlarge, and what their cards ask for beside their defaults."""


@dataclass(frozen=True)
class Upscaler:
    """An upscaler on disk. kind: its pipeline's class. digest: hex sha256 over its files."""

    folder: Path
    kind: str
    digest: str


def find_upscaler(base: BaseIdentity) -> Upscaler:
    """The upscaler of a base. Raises PerfError where it has none, or one that is no such pipeline."""
    folder = base.folder / FOLDER if isinstance(base, BaseDescription) else None
    if folder is None or not (folder / _INDEX).is_file():
        raise PerfError(
            f"the base {base.repo} has no upscaler",
            where="--upscale" if folder is None else str(folder),
            hint="leave --upscale out, or put the folder of one there, such as "
            "stabilityai/sd-x2-latent-upscaler",
        )
    index = folder / _INDEX
    try:
        kind = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PerfError("the upscaler's index cannot be read", where=str(index)) from error
    if kind not in _KINDS:
        raise PerfError(
            f"{kind} is no upscaler that perf can use",
            where=str(index),
            hint=f"it can be {' or '.join(_KINDS)}",
        )
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".txt", ".safetensors"))
    lines = "".join(f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    return Upscaler(folder, kind, hashlib.sha256(lines.encode()).hexdigest())


def enlarge(
    base: Base,
    upscaler: Upscaler,
    images: Sequence[Image.Image],
    text: str,
    negative: str,
    *,
    steps: int,
    seeds: Sequence[int],
) -> list[Image.Image]:
    """Enlarge pictures of one prompt, as the upscaler's pipeline does it in `steps`, with noise of `seeds`.

    text: the prompt with the concepts' supercategories, which the upscaler knows. It stays loaded as long as
    the base. Raises PerfError where the device has too little memory.
    """
    import torch

    from perfusion_registry.memory import enough_memory

    pipe = _loaded.get(base)
    if pipe is None:
        pipe = _loaded[base] = _load(base, upscaler)
    what = f"the device {base.device} has not enough memory to enlarge pictures"
    with base.exclusive(), enough_memory(what, "try --batch 1, or a smaller --size"):
        result = pipe(
            prompt=[text] * len(images),
            negative_prompt=[negative] * len(images),
            image=list(images),
            num_inference_steps=steps,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            **_KINDS[upscaler.kind],
        )
    return list(result.images)


_loaded: WeakKeyDictionary[Base, Any] = WeakKeyDictionary()


def _load(base: Base, upscaler: Upscaler) -> Any:
    import diffusers
    from torch import nn

    from perfusion_registry.base.pretrained import load_pretrained, move

    pipe = load_pretrained(getattr(diffusers, upscaler.kind), upscaler.folder, "the upscaler")
    pipe.set_progress_bar_config(disable=True)
    move([model for model in pipe.components.values() if isinstance(model, nn.Module)], base.device)
    return pipe
