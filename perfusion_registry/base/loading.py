"""From a described base, or from somebody's live pipeline, to a base in memory."""

from __future__ import annotations

from typing import Any

import torch

from perfusion_registry.base.architectures import architecture, every_architecture
from perfusion_registry.base.device import choose_device, choose_formats
from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.base.interface import Base
from perfusion_registry.base.kinds import SUITABLE
from perfusion_registry.base.offload_hooks import CPU
from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.base.offloading import offloaded, require_memory_of_its_own
from perfusion_registry.base.scorer import Scorer
from perfusion_registry.errors import PerfError


def load_base(
    description: BaseDescription,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compute_dtype: str | torch.dtype = "auto",
    offload: Offload | None = None,
) -> Base:
    """Load a described base. Only safetensors are read, and nothing is downloaded.

    device: "auto" takes cuda, then mps, then cpu. dtype: of the weights; "auto" is bf16 (or fp16) on cuda,
    fp16 on mps, fp32 on cpu. compute_dtype: of the products; "auto" is `dtype`, except bf16 on a cpu with
    matrix units where `dtype` is "auto" too: who asks for fp32 gets fp32. offload: what of it is on the
    device only while it computes.
    Raises PerfError when the files are missing or broken, or a device or format is not to be had, or there is
    nothing to offload from.
    """
    place = choose_device(device)
    if offload is not None:
        require_memory_of_its_own(place, offload)
    weights, products = choose_formats(place, dtype, compute_dtype)
    rests = place if offload is None else CPU
    scorer = Scorer(description.clip, rests) if description.clip is not None else None
    base = architecture(description.architecture).load(description, rests, weights, products, scorer)
    return base if offload is None else offloaded(base, place, offload)


def wrap(pipe: Any, description: BaseDescription | None = None) -> Base:
    """The base that a live diffusers pipeline is: it and its components stay as they are.

    description: the base that it was loaded from (`describe_base`), for a pipeline whose text encoder is in
    bf16: the family is then told from the files, and the text encoder read in fp32. Else the family is that
    of the pipeline's own text encoder, whatever has been done to it.

    Raises PerfError for a pipeline that cannot carry concepts: of an architecture that perf does not know,
    with adapters in a text encoder that are not merged, or with a composition that this thread has attached.
    """
    if isinstance(getattr(pipe, "components", None), dict):
        for known in every_architecture():
            base = known.wrap(pipe, description)
            if base is not None:
                return base
    raise PerfError(f"a {type(pipe).__name__} cannot carry concepts", hint=SUITABLE)


def load_tokenizer(description: BaseDescription) -> Any:
    """Load the (first) tokenizer of a base, and nothing else of it. Raises PerfError when it is missing or
    broken."""
    return architecture(description.architecture).tokenizer(description)
