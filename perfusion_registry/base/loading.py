"""A base in memory: the diffusers pipeline, its K and V bank, and the CLIP model that scores its pictures."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version

from perfusion_registry.base.bank import Bank
from perfusion_registry.base.description import BaseDescription
from perfusion_registry.base.device import choose_compute_dtype, choose_device, choose_dtype
from perfusion_registry.base.pretrained import BROKEN, load_pretrained, quiet
from perfusion_registry.base.scorer import Scorer
from perfusion_registry.base.weights import tensor_entries, weight_files
from perfusion_registry.errors import PerfError

# From here on, diffusers calls `torch_dtype` by the name that transformers has for it.
RENAMED = Version("0.42")


@dataclass(frozen=True, eq=False)
class Base:
    """A loaded base, in evaluation mode, with every parameter frozen.

    pipe: the `StableDiffusionPipeline`. text_encoder: always fp32, because gates are taken in the metric of
    C^-1, which amplifies rounding; the pipeline's own one has `dtype`, and is the same object where that is
    fp32. dtype: of the pipeline's weights. compute_dtype: what `autocast` computes in; equal to `dtype`
    where autocast does nothing. scorer: the CLIP model beside the base, or None.
    """

    pipe: Any
    text_encoder: Any
    bank: Bank
    device: torch.device
    dtype: torch.dtype
    compute_dtype: torch.dtype
    description: BaseDescription
    scorer: Scorer | None

    def autocast(self) -> AbstractContextManager[Any]:
        """The context to run the UNet and the VAE in; it does nothing where weights and products agree."""
        if self.compute_dtype == self.dtype:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute_dtype)


def load_base(
    description: BaseDescription,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compute_dtype: str | torch.dtype = "auto",
) -> Base:
    """Load a described base. Only safetensors are read, and nothing is downloaded.

    device: "auto" takes cuda, then mps, then cpu. dtype: of the weights; "auto" is bf16 (or fp16) on cuda,
    fp16 on mps, fp32 on cpu. compute_dtype: "auto" is `dtype`, except bf16 on a cpu with matrix units.
    Raises PerfError when the files are missing or broken, or a device or format is not to be had.
    """
    with quiet():
        from diffusers import StableDiffusionPipeline, __version__
        from transformers import CLIPTextModel

    place = choose_device(device)
    weights = choose_dtype(place, dtype)
    products = choose_compute_dtype(place, weights, compute_dtype)
    folder, variant = description.folder, description.variant
    pipe = load_pretrained(
        StableDiffusionPipeline,
        folder,
        f"the base {description.repo!r}",
        **{"dtype" if Version(__version__) >= RENAMED else "torch_dtype": weights},
        variant=variant,
        safety_checker=None,
        requires_safety_checker=False,
        feature_extractor=None,
    )
    pipe.set_progress_bar_config(disable=True)
    text_encoder = pipe.text_encoder
    if weights != torch.float32:
        text_encoder = load_pretrained(
            CLIPTextModel, folder / "text_encoder", "the text encoder", dtype=torch.float32, variant=variant
        )
    for model, part in (("unet", pipe.unet), ("text_encoder", text_encoder)):
        _require_all_weights(part, folder / model, variant)
    try:
        for part in (pipe.unet, pipe.vae, pipe.text_encoder, text_encoder):
            part.to(place).eval().requires_grad_(False)
    except torch.OutOfMemoryError as error:
        raise PerfError(
            f"the base does not fit into the memory of {place}", hint="use --device cpu, or a smaller format"
        ) from error
    clip = folder / description.card.clip
    return Base(
        pipe=pipe,
        text_encoder=text_encoder,
        bank=Bank.of(pipe.unet),
        device=place,
        dtype=weights,
        compute_dtype=products,
        description=description,
        scorer=Scorer.load(clip, place) if clip.is_dir() else None,
    )


def _require_all_weights(model: torch.nn.Module, folder: Path, variant: str | None) -> None:
    """Raise PerfError when a parameter is in no file; the libraries would only fill it with noise."""
    stored = {
        name.removeprefix("text_model.")
        for path in weight_files(folder, variant)
        if path.suffix == ".safetensors"
        for name in tensor_entries(path)
    }
    wanted = {name.removeprefix("text_model.") for name, _ in model.named_parameters()}
    absent = sorted(wanted - stored)
    if absent:
        raise PerfError(
            f"{len(absent)} of the model's weights are missing, such as {absent[0]}",
            where=str(folder),
            hint=BROKEN,
        )
