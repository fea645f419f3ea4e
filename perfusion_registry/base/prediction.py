"""What a denoiser in one file was trained to predict, which its weights do not say outright."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from perfusion_registry.base.weights import FLOATS, FP8
from perfusion_registry.safetensors_header import Header, floats

PredictionKind = Literal["epsilon", "v_prediction"]
GUIDANCE_RESCALE = 0.7
"""Of schedules without signal at their end, as Lin et al. (2023) have it; else pictures are overexposed."""

# `modelspec.prediction_type` as kohya-ss writes it, `modelspec.predict_key` as the standard has it.
_METADATA = ("modelspec.prediction_type", "modelspec.predict_key")
_SPELT: dict[str, PredictionKind] = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "v-prediction": "v_prediction",
}
# Of SD 2: the standard deviation of this tensor is greater where the velocity is predicted (ComfyUI).
_STATISTIC = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
_INPUT = "model.diffusion_model.input_blocks.0.0.weight"  # which has as many channels
_GREATER = 0.09
_SIDES = (64, 4096)  # pixels, between which a native size is believed


@dataclass(frozen=True)
class Prediction:
    """What a denoiser predicts. kind: as diffusers calls it. zero_terminal_snr: whether nothing of the
    picture is left at the end of its noise schedule. told_by: where this is known from; None where it is
    assumed. asked: whether somebody said any of it in `perfusion.toml`."""

    kind: PredictionKind
    zero_terminal_snr: bool = False
    told_by: str | None = None
    asked: bool = False

    @property
    def as_locked(self) -> str | None:
        """What of it a lockfile says: what was asked; the file itself says the rest."""
        words = [self.kind, *["zero_terminal_snr"] * self.zero_terminal_snr]
        return " ".join(words) if self.asked else None

    @property
    def asked_again(self) -> Asked:
        """What to ask of the file for it to be told so again."""
        return Asked(self.kind, self.zero_terminal_snr)

    @property
    def sentence(self) -> str:
        """In words, and what to do where it is assumed."""
        schedule = ", with a zero terminal SNR" if self.zero_terminal_snr else ""
        if self.told_by:
            return f"it predicts {self.kind}{schedule}, as {self.told_by} says"
        return (
            f"nothing says what it predicts, so {self.kind} is assumed{schedule}; for another write "
            'prediction = "v_prediction" under [base] in perfusion.toml'
        )


@dataclass(frozen=True)
class Asked:
    """What somebody says of a base in one file, in `perfusion.toml`; None: nothing."""

    prediction: PredictionKind | None = None
    zero_terminal_snr: bool | None = None


def tell_prediction(file: Path, header: Header, asked: Asked, *, by_statistic: bool) -> Prediction:
    """What the file's denoiser predicts: as was asked, else by the file's metadata, by markers among its
    tensors, by a tensor that tells, and else epsilon.

    by_statistic: whether it is of a kind, Stable Diffusion 2, of which a tensor tells.
    """
    tensors, given = header.tensors, asked != Asked()
    zero = "ztsnr" in tensors if asked.zero_terminal_snr is None else asked.zero_terminal_snr
    if asked.prediction is not None:
        return Prediction(asked.prediction, zero, "perfusion.toml", given)
    prediction, told_by = _told(tensors, header.metadata)
    if prediction is not None:
        return Prediction(prediction, zero, told_by, given)
    deviation = _deviation(file, header) if by_statistic else None
    if deviation is not None:
        kind: PredictionKind = "v_prediction" if deviation > _GREATER else "epsilon"
        return Prediction(kind, zero, "a tensor of its UNet", given)
    return Prediction("epsilon", zero, asked=given)


def marked(names: Collection[str], metadata: Mapping[str, str]) -> tuple[PredictionKind | None, bool]:
    """What a file's metadata and the names of its tensors say that it predicts, None where they say nothing,
    and whether they say that its schedule has a zero terminal SNR."""
    return _told(names, metadata)[0], "ztsnr" in names


def _told(names: Collection[str], metadata: Mapping[str, str]) -> tuple[PredictionKind | None, str | None]:
    """What is predicted, and what says so."""
    for key in _METADATA:
        prediction = _SPELT.get(metadata.get(key, "").strip().lower())
        if prediction is not None:
            return prediction, f"`{key}` in the file"
    return ("v_prediction", "`v_pred` in the file") if "v_pred" in names else (None, None)


def native_sides(header: Header) -> tuple[int, int] | None:
    """(height, width) in pixels that the file's metadata says it was made for; None where it says nothing, or
    a size that no such base draws."""
    said = header.metadata.get("modelspec.resolution", "")
    match = re.fullmatch(r"(\d{2,4})\s*x\s*(\d{2,4})", said, re.ASCII)
    sides = (int(match[2]), int(match[1])) if match else ()
    if not sides or any(side % 8 or not _SIDES[0] <= side <= _SIDES[1] for side in sides):
        return None
    return sides


def scheduler_of(prediction: Prediction, plain: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's configuration for what is predicted. plain: that of the base's kind."""
    config = {**plain, "prediction_type": prediction.kind}
    if not prediction.zero_terminal_snr:
        return config
    if config["_class_name"] == "PNDMScheduler":  # which cannot begin at noise alone
        config = {key: value for key, value in config.items() if key != "skip_prk_steps"}
        config["_class_name"] = "DDIMScheduler"
    return {**config, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def _deviation(file: Path, header: Header) -> float | None:
    """Of the tensor that tells; None where it is not there, or is not one number for each channel."""
    entry, width = header.tensors.get(_STATISTIC), header.tensors[_INPUT].shape[0]
    if entry is None or entry.dtype not in (*FLOATS, *FP8) or entry.shape != (width,):
        return None
    with file.open("rb") as opened:
        opened.seek(entry.start)
        numbers = floats(opened.read(entry.end - entry.start), entry.dtype).astype("f8")
    return float(numbers.std()) if all(map(isfinite, numbers)) else None
