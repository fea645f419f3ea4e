"""Schedulers by their names, so that a wrong one is told before diffusers is imported."""

from __future__ import annotations

import re

SHORT_NAMES = {
    "ddim": "DDIMScheduler",
    "dpmsolver": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
}
"""Schedulers that have a short name beside the one that diffusers gives them."""

COMPATIBLE = (
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "DPMSolverSDEScheduler",
    "EDMEulerScheduler",
)
"""Those that diffusers calls compatible with each other."""

FEW_STEPS = ("LCMScheduler", "TCDScheduler")
"""Those that take the noise schedule of any compatible one, and that LoRAs for few steps are made for."""


def schedulers_of(own: str) -> tuple[str, ...]:
    """The names of the schedulers that can take the noise schedule of one. own: its name."""
    return tuple(dict.fromkeys((own, *COMPATIBLE, *FEW_STEPS))) if own in COMPATIBLE else (own,)


_ELSEWHERE = {
    "DDIMScheduler": ("ddim",),
    "DDPMScheduler": ("ddpm",),
    "PNDMScheduler": ("plms", "pndm"),
    "LMSDiscreteScheduler": ("lms", "klms"),
    "EulerDiscreteScheduler": ("euler", "keuler"),
    "EulerAncestralDiscreteScheduler": ("eulera", "eulerancestral", "keulera", "keulerancestral"),
    "HeunDiscreteScheduler": ("heun", "kheun"),
    "KDPM2DiscreteScheduler": ("dpm2", "kdpm2"),
    "KDPM2AncestralDiscreteScheduler": ("dpm2a", "dpm2ancestral", "kdpm2a", "kdpm2ancestral"),
    "DPMSolverMultistepScheduler": ("dpm++2m", "kdpm++2m", "dpmpp2m", "dpm"),
    "DPMSolverSinglestepScheduler": ("dpm++2s", "dpmpp2s"),
    "DPMSolverSDEScheduler": ("dpm++sde", "dpmppsde", "dpmppsdegpu", "kdpm++sde"),
    "UniPCMultistepScheduler": ("unipc", "unipcbh2"),
    "DEISMultistepScheduler": ("deis",),
    "LCMScheduler": ("lcm",),
    "TCDScheduler": ("tcd",),
}
"""What A1111, ComfyUI and InvokeAI call them, in small letters without spaces and underscores."""
_SPACINGS = ("karras", "polyexponential", "exponential", "sgmuniform", "simple", "normal", "uniform")
"""What these say behind a name, of the noise levels: perf takes the base's own."""


def known_elsewhere(name: str) -> str | None:
    """How a scheduler that other tools call by some name is written here; None where nobody knows it."""
    plain = _plain(name)
    for ours, theirs in _ELSEWHERE.items():
        if plain in (*theirs, ours.lower(), ours.lower().removesuffix("scheduler")):
            return next((short for short, meant in SHORT_NAMES.items() if meant == ours), ours)
    return None


def random_elsewhere(name: str) -> bool:
    """Whether other tools call so a sampler of DPM++ with fresh noise in every step that is not here."""
    return bool(re.fullmatch(r"k?dpm(\+\+|pp)(2msde|2msdeheun|3msde|2sa|2sancestral)(gpu)?", _plain(name)))


def _plain(name: str) -> str:
    """A name in small letters, without what says nothing of the sampler."""
    plain = "".join(name.lower().replace("_", "").replace("-", "").split())
    for spacing in _SPACINGS:
        plain = plain.removesuffix(spacing)
    return plain
