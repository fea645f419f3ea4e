"""What K and V cost in each denoising step at the true widths of SD 1.5 and SDXL: packed, and in a thin form.

*Packed* is made once for a prompt, `E_perp W^T + G O` for all layers at once, (2, n, D); each layer takes its
columns. The *thin form* hands the denoiser `[E_perp, G]`, (2, n, d + J), and each layer's stand-in calls the
projection that was there and adds to it, `W_l E_perp + G O_l`: the unedited model, and one small product
more. Weights are random, which take as long as trained ones; only the projections are here, not the denoiser.

    python -m benchmarks.thin --out thin.json
    python -m benchmarks.thin --device cuda --dtype bfloat16
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import linear

LAYOUTS = Path(__file__).parents[1] / "perfusion_registry" / "base" / "layouts"
MODELS = {"Stable Diffusion 1.5": "stable-diffusion-1", "SDXL": "sdxl"}
TOKENS, BRANCHES, CONCEPTS = 77, 2, 2


def widths(layout: Path) -> tuple[int, list[int]]:
    """d, and the width of each K and V projection of a layout's denoiser, without its weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(layout / "unet"))
    found = [
        module.weight.shape
        for path, module in unet.named_modules()
        if path.endswith(("attn2.to_k", "attn2.to_v"))
    ]
    return found[0][1], [shape[0] for shape in found]


def median_ms(run: Callable[[], object], device: str, repeats: int) -> float:
    """The median of `repeats` runs, in milliseconds."""
    times = []
    for _ in range(repeats + 2):
        begun = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times[2:])


def measure(layout: Path, device: str, dtype: torch.dtype, repeats: int) -> dict[str, float]:
    """Milliseconds of a prompt and of each step, MiB of what the denoiser is given and of what is kept."""
    d, rows = widths(layout)
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).to(device, dtype)

    W, O = [drawn(row, d) for row in rows], [drawn(CONCEPTS, row) for row in rows]  # noqa: E741 (the paper's)
    E, G = drawn(BRANCHES, TOKENS, d), drawn(BRANCHES, TOKENS, CONCEPTS)
    whole_W, whole_O = torch.cat(W), torch.cat(O, 1)
    packed = linear(E, whole_W) + G @ whole_O
    starts = torch.tensor([0, *rows]).cumsum(0).tolist()
    size = packed.element_size() / 2**20
    return {
        "D": len(whole_W),
        "packed, once a prompt": median_ms(lambda: linear(E, whole_W) + G @ whole_O, device, repeats),
        "packed, each step": median_ms(
            lambda: [packed[..., a:b].contiguous() for a, b in pairwise(starts)],
            device,
            repeats,
        ),
        "thin, each step": median_ms(
            lambda: [linear(E, w) + G @ o for w, o in zip(W, O, strict=True)], device, repeats
        ),
        "unedited, each step": median_ms(lambda: [linear(E, w) for w in W], device, repeats),
        "packed, MiB": packed.numel() * size,
        "thin, MiB": 2 * BRANCHES * TOKENS * (d + CONCEPTS) * size,
        "second copy of W, MiB in fp32": whole_W.numel() * 4 / 2**20,
    }


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    with torch.no_grad():
        results = {
            name: measure(LAYOUTS / layout, options.device, dtype, options.repeats)
            for name, layout in MODELS.items()
        }
    for name, values in results.items():
        print(name)
        for what, value in values.items():
            print(f"  {what:32}{value:12,.2f}")
    if options.out is not None:
        said = {"device": options.device, "dtype": options.dtype, "torch": torch.__version__, **results}
        options.out.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
