"""Schedulers by their names, so that a wrong one is told before diffusers is imported."""

from __future__ import annotations

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
