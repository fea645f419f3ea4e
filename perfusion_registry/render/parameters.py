"""What galleries and other programs read of a picture: its prompt and settings as A1111 writes them."""

from __future__ import annotations

import json

from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.prompt import unparse
from perfusion_registry.render.request import RenderRequest

_SAMPLERS = {"ddim": "DDIM", "dpmsolver": "DPM++ 2M", "euler": "Euler"}


def title_of(composition: Composition) -> str:
    """The prompt as a person reads it, its escapes resolved, but for those of brackets."""
    prompt = composition.parsed
    if prompt.plain:
        return prompt.spoken({name: f"{name}*" for name in composition.words})
    return unparse(prompt).replace("\\*", "*")  # its weights as they are written, which others read too


def parameters(composition: Composition, request: RenderRequest, seed: int, perf: str) -> str:
    """The text that A1111 calls parameters: the prompt, the negative prompt, and a line of settings.

    perf: its version. Enough to be shown and searched; what a picture is drawn again from is perf's own
    record.
    """
    settings = {
        "Steps": str(request.steps),
        "Sampler": _SAMPLERS.get(request.scheduler, request.scheduler),
        "CFG scale": f"{request.guidance:g}",
        "Seed": str(seed),
        "Size": f"{request.width}x{request.height}",
        "Model": composition.base.repo,
        "Version": f"perf {perf}",
    }
    lines = [title_of(composition)]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(", ".join(f"{key}: {_quoted(value)}" for key, value in settings.items()))
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A value as A1111 writes it: what would end it is quoted."""
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text
