"""What either form of an edit costs as a whole, packed and thin: memory at true shapes, seconds on Storybook.

Memory is computed with tensors that have no numbers: what stays for as long as a base draws, what reading a
prompt takes beside it, and what a denoising step of both branches takes. What a kernel needs for itself, and
what an allocator wastes, is not in it. Seconds are those of denoising steps of the embedded base, with two
concepts that were hardly trained, which takes as long.

    python -m benchmarks.forms --out forms.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.bench.drawing import concept, storybook
from benchmarks.memory import GIB, SHAPES
from benchmarks.without_numbers import LENGTH, Alive, Shape
from perfusion_registry import edit
from perfusion_registry.base import Conditioning, Form, Thin
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.compose.packing import edited
from perfusion_registry.methods.perfusion.gate import Gate

FORMS: tuple[Form, ...] = get_args(Form)
CONCEPTS, BRANCHES, REPEATS, STEPS_AT_ONCE = 2, 2, 15, 8
POOLED = 1280
"""Of SDXL's second text encoder."""


@torch.no_grad()
def memory(shape: Shape, form: Form) -> dict[str, float]:
    """GiB in bf16 on a GPU: held while a base draws, and beside that at most for a prompt and for a step."""
    with FakeTensorMode(allow_non_fake_inputs=True), Alive() as alive:
        base = shape.made(torch.bfloat16)
        bank = base.bank
        if form == "packed":
            _ = bank.W
        held = alive.peak = alive.now
        E = torch.rand(BRANCHES, LENGTH, bank.width)
        I, V = torch.rand(2, CONCEPTS, bank.width)  # noqa: E741 (the paper's)
        O = torch.stack([bank.emitted(I[j]) for j in range(CONCEPTS)])  # noqa: E741
        gates = torch.rand(CONCEPTS), torch.rand(CONCEPTS)
        thin = Thin(O) if form == "thin" else None
        if thin is None:
            states = edit.packed(E, bank.W, I, V, O, *gates)
        else:
            parts = edit.parted(E, I, V, *gates)
            states = thin.given(parts, parts)
        prompt = alive.peak - held
        pooled = torch.rand(BRANCHES, POOLED) if "text_encoder_2" in base.pipe.components else None
        read = Conditioning(states.bfloat16(), pooled=pooled, thin=thin)
        x = torch.rand(BRANCHES, 4, shape.side, shape.side)
        before = alive.peak = alive.now
        with base.attached(thin=thin):
            base.denoise(x, torch.zeros(BRANCHES), read)
        return {"held": held / GIB, "a prompt": prompt / GIB, "a step": (alive.peak - before) / GIB}


def seconds() -> dict[Form, dict[str, float]]:
    """Milliseconds of a prompt and of a denoising step of both branches, the forms in turns."""
    base = storybook()
    concepts = {
        name: Concept(concept(name, residual=False), "0" * 64, Gate()) for name in ("teddy", "teapot")
    }
    artifacts = {name: one.artifact for name, one in concepts.items()}
    composition = compose(parse_prompt("a teddy* in a teapot* in the snow"), concepts, base)
    prompts = [parse_prompt(""), composition.parsed]
    unet: Any = base.denoiser
    height, width = (side // base.pixels_per_latent for side in base.native_size)
    x = torch.randn(BRANCHES, unet.config.in_channels, height, width)
    t = torch.tensor([base.objective.time(0.5)] * BRANCHES)
    times: dict[Form, dict[str, list[float]]] = {form: {"a prompt": [], "a step": []} for form in FORMS}
    with torch.inference_mode():
        for number in range(REPEATS):
            for form in FORMS if number % 2 else reversed(FORMS):
                begun = time.perf_counter()
                read = edited(base, composition, artifacts, prompts, form=form)
                times[form]["a prompt"].append(1000 * (time.perf_counter() - begun))
                with base.attached(thin=read.thin):
                    begun = time.perf_counter()
                    for _ in range(STEPS_AT_ONCE):
                        base.denoise(x, t, read)
                    times[form]["a step"].append(1000 * (time.perf_counter() - begun) / STEPS_AT_ONCE)
    return {
        form: {what: statistics.median(own) for what, own in kinds.items()} for form, kinds in times.items()
    }


def main() -> None:
    """Compute, measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    ways = {f"{name}, GiB": partial(memory, Shape.of(folder)) for name, folder in SHAPES.items()}
    found = {name: {form: way(form) for form in FORMS} for name, way in ways.items()}
    found["Storybook, ms"] = {**seconds()}
    for name, forms in found.items():
        for form, numbers in forms.items():
            said = ", ".join(f"{what} {number:.3f}" for what, number in numbers.items())
            print(f"{name:14}{form:8}{said}", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
