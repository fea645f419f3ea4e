"""What the method costs at the full size of Stable Diffusion 1.5, with random weights and no download.

Measures one training step, and one guided denoising step without concepts, with two, and with two that have
personalised residuals, in seconds and peak memory. Random weights take as long as trained ones.

    python -m benchmarks.sd15 --out sd15.json                 # bf16 on the CPU, batch 1: some minutes
    python -m benchmarks.sd15 --device cuda --batch 16
    python -m benchmarks.sd15 --tiny                          # a few seconds, to see that it runs
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from perfusion_registry.base import Base, Tokens, block_widths, marked
from perfusion_registry.base.architectures.stable_diffusion import StableDiffusionBase
from perfusion_registry.build.latents import Latents
from perfusion_registry.build.training import TrainInputs, training_step
from perfusion_registry.edit import CovarianceMetric, packed
from perfusion_registry.methods.perfusion.key_lock import KeyLock
from perfusion_registry.methods.perfusion.options import TrainOptions
from perfusion_registry.methods.perfusion.training import PerfusionTrainable
from perfusion_registry.methods.prompts import Prompts

UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
TINY_UNET = UNET | {"sample_size": 8, "block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32}
TINY_TEXT = TEXT | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
PROMPTS, LENGTH = 9, 77
CALLED = 5
"""Where each prompt calls its concept."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--batch", type=int, help="training batch; 16 on cuda, 1 elsewhere")
    parser.add_argument(
        "--repeat", type=int, default=3, help="timed repetitions of each step, after one more"
    )
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations: slower, smaller")
    parser.add_argument("--residual-rank", type=float, default=0.05, help="0.05 is that of its paper")
    parser.add_argument("--tiny", action="store_true", help="tiny widths instead of the real ones")
    parser.add_argument("--out", type=Path, help="write the numbers here as JSON")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    batch = arguments.batch or (16 if device.type == "cuda" else 1)

    began = time.perf_counter()
    base = random_base(device, DTYPES[arguments.dtype], tiny=arguments.tiny)
    report = {
        "machine": machine(device),
        "dtype": arguments.dtype,
        "threads": torch.get_num_threads(),
        "tiny": arguments.tiny,
        "parameters": {"unet": count(base.pipe.unet), "text_encoder": count(base.pipe.text_encoder)},
        "bank": list(base.bank.W.shape),
        "seconds_to_make_weights": round(time.perf_counter() - began, 2),
        "denoising": denoising(base, arguments.repeat, arguments.residual_rank),
        "training": {
            name: training(base, batch, arguments.repeat, rank, checkpointing=arguments.checkpointing)
            for name, rank in (("plain", 0.0), ("residual", arguments.residual_rank))
        },
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))


def random_base(device: torch.device, dtype: torch.dtype, *, tiny: bool) -> Base:
    """A base without files: weights are drawn where they will lie, so nothing is ever held twice."""
    text = CLIPTextConfig(**(TINY_TEXT if tiny else TEXT))
    with torch.device("meta"):
        unet = UNet2DConditionModel(**(TINY_UNET if tiny else UNET))
        encoder = CLIPTextModel(text)
    unet, encoder = filled(unet, device, dtype), filled(encoder, device, torch.float32)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    ends = SimpleNamespace(pad_token_id=text.eos_token_id, eos_token_id=text.eos_token_id)
    pipe = SimpleNamespace(unet=unet, text_encoder=encoder, scheduler=scheduler, tokenizer=ends)
    nothing: Any = None
    return StableDiffusionBase(
        pipe=pipe,
        text_encoder=encoder,
        device=device,
        dtype=dtype,
        compute_dtype=dtype,
        description=nothing,
    )


def random_prompts(base: Base, count: int, generator: torch.Generator) -> tuple[Tokens, ...]:
    """Prompts of any tokens, which each call a concept."""
    vocabulary = base.embedding_tables[0].num_embeddings
    rows = torch.randint(0, vocabulary, (count, LENGTH), generator=generator).tolist()
    place = (CALLED,)
    return tuple(Tokens((tuple(row),), LENGTH, ("",) * LENGTH, place, (place,), ((place,),)) for row in rows)


def filled(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Give a model on the meta device small random weights."""
    model = nn.Module.to(model, dtype).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(0)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02, generator=generator)
            else:
                parameter.fill_(
                    1 if name == "weight" and isinstance(module, nn.GroupNorm | nn.LayerNorm) else 0
                )
        for name, buffer in module.named_buffers(recurse=False):
            if name == "position_ids":
                buffer.copy_(torch.arange(buffer.shape[-1]).expand_as(buffer))
    return model


def denoising(base: Base, repeat: int, rank: float) -> dict[str, Any]:
    """A guided step (two branches) of the untouched UNet beside those with two concepts, turn by turn."""
    unet, (D, d) = base.pipe.unet, base.bank.W.shape
    side = unet.config.sample_size
    generator = torch.Generator(base.device).manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=base.device)

    prompts = random_prompts(base, 2, torch.Generator().manual_seed(1))
    noisy, t = normal(2, 4, side, side).to(base.dtype), torch.tensor(500, device=base.device)
    metric = CovarianceMetric(torch.eye(d, dtype=torch.float64))
    E = base.encode(prompts).states
    targets, outputs = E[0, [CALLED, 8]].clone(), normal(2, D) * 0.02
    duals = metric.dual(targets)
    gates = targets.new_tensor([0.65, 0.65]), targets.new_tensor([0.15, 0.15])

    def pack() -> Tensor:
        return packed(E, base.bank.W, targets, duals, outputs, *gates).to(base.dtype)

    def factors() -> dict[str, tuple[Tensor, Tensor]]:
        widths = block_widths(base.residual_blocks)
        ranks = {path: max(1, round(rank * out)) for path, (out, _) in widths.items()}
        return {
            path: (normal(ranks[path], into), normal(out, ranks[path]) * 0.02)
            for path, (out, into) in widths.items()
        }

    residuals, focus = [factors(), factors()], torch.zeros(2, LENGTH, 2, device=base.device)
    focus[1, [CALLED, 8], [0, 1]] = 1
    plain, edited = E.to(base.dtype), pack()
    called = marked(edited, focus)
    seconds: dict[str, list[float]] = {"plain": [], "edited": [], "residual": [], "pack": []}
    peaks = {"plain": 0.0, "edited": 0.0, "residual": 0.0}
    with torch.inference_mode():
        for turn in range(repeat + 1):
            with peak(base.device) as highest:
                taken = {"plain": timed(base.device, lambda: unet(noisy, t, plain))}
            peaks["plain"] = max(peaks["plain"], highest())
            with base.attached(), peak(base.device) as highest:
                taken["edited"] = timed(base.device, lambda: unet(noisy, t, edited))
            peaks["edited"] = max(peaks["edited"], highest())
            with base.attached(residuals), peak(base.device) as highest:
                taken["residual"] = timed(base.device, lambda: unet(noisy, t, called))
            peaks["residual"] = max(peaks["residual"], highest())
            taken["pack"] = timed(base.device, pack)
            if turn:  # the first turn warms up
                for name, value in taken.items():
                    seconds[name].append(value)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds_without_concepts": medians["plain"],
        "seconds_with_two_concepts": medians["edited"],
        "seconds_with_two_residuals": medians["residual"],
        "ratio": medians["edited"] / medians["plain"],
        "ratio_with_residuals": medians["residual"] / medians["plain"],
        "seconds_to_pack_once_per_prompt": medians["pack"],
        "peak_gib_without_concepts": peaks["plain"],
        "peak_gib_with_two_concepts": peaks["edited"],
        "peak_gib_with_two_residuals": peaks["residual"],
    }


def training(base: Base, batch: int, repeat: int, rank: float, *, checkpointing: bool) -> dict[str, Any]:
    """Whole training steps: draw, encode, Eq. 3, UNet forward and backward, Adam."""
    unet, d = base.pipe.unet, base.bank.W.shape[1]
    side = unet.config.sample_size
    if checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()  # diffusers recomputes only in training mode; nothing in SD's UNet drops out
    generator = torch.Generator().manual_seed(2)
    prompts = random_prompts(base, PROMPTS, generator)
    encoding = base.encode(prompts[:1]).states[0, CALLED].clone()
    embedding = base.embedding_tables[0].weight[prompts[0].ids[0][CALLED]].float().clone()
    lock = KeyLock((embedding,), encoding, base.bank.W @ encoding, ~base.bank.key_columns)
    latents = Latents(
        *(torch.rand(10, 4, side, side, generator=generator).to(base.device) for _ in range(2)),
        torch.ones(10, 1, side, side, device=base.device),
    )
    options = TrainOptions(batch=batch, residual_rank=rank)
    metric = CovarianceMetric(torch.eye(d, dtype=torch.float64))

    def make(*_: object) -> PerfusionTrainable:  # without a tokenizer there is no word to lock to
        return PerfusionTrainable(base, lock, metric, options, torch.Generator().manual_seed(0))

    inputs = TrainInputs(base, "", metric, Prompts(prompts), latents, options, make)
    state = inputs.begin()
    seconds = []
    residual = state.concept.factors(state.concept.parameters)
    learned = [residual] if residual else []
    with base.attached(learned, everywhere=True), peak(base.device) as highest:
        for turn in range(repeat + 1):
            taken = timed(base.device, lambda: training_step(inputs, state))
            if turn:
                seconds.append(taken)
        peak_gib = highest()
    return {
        "batch": batch,
        "gradient_checkpointing": checkpointing,
        "seconds": statistics.median(seconds),
        "seconds_per_sample": statistics.median(seconds) / batch,
        "peak_gib": peak_gib,
        "learned_parameters": sum(parameter.numel() for parameter in state.concept.parameters.values()),
    }


def timed(device: torch.device, work: Callable[[], object]) -> float:
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def peak(device: torch.device) -> Iterator[Callable[[], float]]:
    """GiB at most within the context: allocated on a cuda device, else resident in this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device) / 2**30
        return
    if not Path("/proc/self/statm").exists():  # the highest of the whole process so far, in bytes on a Mac
        yield lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
        return
    highest, stop = [resident()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            highest[0] = max(highest[0], resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(highest[0], resident())
    finally:
        stop.set()
        thread.join()


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**30


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    return names[0].split(":")[1].strip() if names else platform.processor() or platform.machine()


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def table(report: dict[str, Any]) -> str:
    drawn, learned, bank = report["denoising"], report["training"]["plain"], report["bank"]
    more = report["training"]["residual"]
    size = "tiny widths" if report["tiny"] else "Stable Diffusion 1.5"
    rows = [
        ("", "seconds", "peak GiB", "ratio"),
        (
            "denoising step, no concept",
            drawn["seconds_without_concepts"],
            drawn["peak_gib_without_concepts"],
            1.0,
        ),
        (
            "denoising step, two concepts",
            drawn["seconds_with_two_concepts"],
            drawn["peak_gib_with_two_concepts"],
            drawn["ratio"],
        ),
        (
            "denoising step, two residuals",
            drawn["seconds_with_two_residuals"],
            drawn["peak_gib_with_two_residuals"],
            drawn["ratio_with_residuals"],
        ),
        ("packing, once a prompt", drawn["seconds_to_pack_once_per_prompt"], None, None),
        (f"training step, batch {learned['batch']}", learned["seconds"], learned["peak_gib"], 1.0),
        ("training step, residual", more["seconds"], more["peak_gib"], more["seconds"] / learned["seconds"]),
    ]
    head = f"{size}, {report['dtype']}, bank {bank[0]} x {bank[1]}, on {report['machine']}"
    return "\n".join([head, *(_line(row) for row in rows)])


def _line(row: tuple[Any, ...]) -> str:
    cells = ["" if cell is None else cell if isinstance(cell, str) else f"{cell:.3f}" for cell in row[1:]]
    return f"{row[0]:<32}" + "".join(f"{cell:>12}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
