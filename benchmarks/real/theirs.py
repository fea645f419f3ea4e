"""The other side: training scripts of diffusers' `examples/`, with the values of their own pages.

A script is run as it is, by the same Python as perf; diffusers alone loads what it leaves, and draws.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from PIL import Image

from benchmarks.real.measured import run
from benchmarks.real.subjects import Subject
from perfusion_registry.errors import PerfError

TOKEN = "<new1>"
PRIOR = 200
"""Pictures of the plain word that Custom Diffusion draws first, which its seconds hold."""


@dataclass(frozen=True)
class Script:
    """name: of the method. path: below the checkout. architectures: whose bases it trains. arguments: of a
    run. kept: what it leaves that drawing needs. load: puts that into a pipeline. call: what prompts say."""

    name: str
    path: str
    architectures: tuple[str, ...]
    arguments: Callable[[Subject, Path, int, Path], list[str]]
    kept: tuple[str, ...]
    load: Callable[[Any, Path], None]
    call: str

    def train(
        self, checkout: Path, base: Path, subject: Subject, size: int, result: Path, more: Sequence[str]
    ) -> dict[str, Any]:
        """Seconds, memory and bytes of a training. more: arguments behind its own. Raises PerfError."""
        script, folder = checkout / self.path, result.with_suffix("")
        if not script.exists():
            what = "it is no checkout of diffusers: it has no such script"
            raise PerfError(
                what, where=str(script), hint="git clone https://github.com/huggingface/diffusers"
            )
        photos = folder / "photos"  # alone: the scripts open every file of a folder as a picture
        photos.mkdir(parents=True, exist_ok=True)
        for picture in subject.pictures:
            shutil.copyfile(picture, photos / picture.name)
        own = self.arguments(subject, photos, size, folder / "out")
        given = [
            "--pretrained_model_name_or_path",
            str(base),
            *own,
            "--output_dir",
            str(folder / "out"),
            *more,
        ]
        measured = run(result, [str(script), *given])
        missing = [name for name in self.kept if not (folder / "out" / name).exists()]
        if missing:
            raise PerfError(f"the script left no {', '.join(missing)}", where=str(folder / "out"))
        return measured | {"bytes": sum((folder / "out" / name).stat().st_size for name in self.kept)}

    def pipeline(self, base: Path, like: Any, folder: Path) -> Any:
        """The stock pipeline with what was trained. like: a record of perf's, for scheduler and format."""
        pipe = diffusers.DiffusionPipeline.from_pretrained(base, local_files_only=True)
        pipe = pipe.to(like.device, getattr(torch, like.dtype))
        pipe.set_progress_bar_config(disable=True)
        name = {
            "ddim": "DDIMScheduler",
            "dpmsolver": "DPMSolverMultistepScheduler",
            "euler": "EulerDiscreteScheduler",
        }
        kind = getattr(diffusers, name.get(like.request.scheduler, like.request.scheduler))
        pipe.scheduler = kind.from_config(pipe.scheduler.config)
        self.load(pipe, folder)
        return pipe

    def draw(self, pipe: Any, subject: Subject, template: str, seed: int, like: Any) -> Image.Image:
        """One picture, with the steps, guidance, size and noise of perf's."""
        asked = like.request
        image: Image.Image = pipe(
            template.format(self.call.format(word=subject.word)),
            num_inference_steps=asked.steps,
            guidance_scale=asked.guidance,
            width=asked.width,
            height=asked.height,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        return image


def release() -> None:
    """Give back what a pipeline held that nobody has any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _inversion(size: int | None, steps: int) -> Callable[[Subject, Path, int, Path], list[str]]:
    def arguments(subject: Subject, photos: Path, native: int, _: Path) -> list[str]:
        return [
            "--train_data_dir", str(photos), "--learnable_property", "object", "--placeholder_token", TOKEN,
            "--initializer_token", subject.word.split()[-1], "--resolution", str(min(size or native, native)),
            "--train_batch_size", "1", "--gradient_accumulation_steps", "4", "--max_train_steps", str(steps),
            "--learning_rate", "5.0e-04", "--scale_lr", "--lr_scheduler", "constant",
            "--lr_warmup_steps", "0",
        ]  # fmt: skip

    return arguments


def _custom_diffusion(subject: Subject, photos: Path, native: int, out: Path) -> list[str]:
    prompt = f"photo of a {TOKEN} {subject.word}"
    return [
        "--instance_data_dir", str(photos), "--class_data_dir", str(out.parent / "prior"),
        "--with_prior_preservation", "--prior_loss_weight", "1.0", "--class_prompt", subject.word,
        "--num_class_images", str(PRIOR), "--instance_prompt", prompt,
        "--resolution", str(native), "--train_batch_size", "2", "--learning_rate", "1e-5",
        "--lr_warmup_steps", "0", "--max_train_steps", "250", "--scale_lr", "--hflip",
        "--modifier_token", TOKEN,
    ]  # fmt: skip


def _load_inversion(pipe: Any, folder: Path) -> None:
    pipe.load_textual_inversion(folder, weight_name="learned_embeds.safetensors", token=TOKEN)


def _load_inversion_xl(pipe: Any, folder: Path) -> None:
    for name, end in (("learned_embeds", ""), ("learned_embeds_2", "_2")):
        parts = {
            "text_encoder": getattr(pipe, f"text_encoder{end}"),
            "tokenizer": getattr(pipe, f"tokenizer{end}"),
        }
        pipe.load_textual_inversion(folder, weight_name=f"{name}.safetensors", token=TOKEN, **parts)


def _load_custom(pipe: Any, folder: Path) -> None:
    pipe.unet.load_attn_procs(folder, weight_name="pytorch_custom_diffusion_weights.safetensors")
    pipe.load_textual_inversion(folder, weight_name=f"{TOKEN}.safetensors", token=TOKEN)


_TI = "examples/textual_inversion"
SCRIPTS = (
    Script(
        "textual inversion", f"{_TI}/textual_inversion.py", ("stable-diffusion",),
        _inversion(None, 3000), ("learned_embeds.safetensors",), _load_inversion, TOKEN,
    ),
    Script(
        "textual inversion", f"{_TI}/textual_inversion_sdxl.py", ("sdxl",),
        _inversion(768, 500), ("learned_embeds.safetensors", "learned_embeds_2.safetensors"),
        _load_inversion_xl, TOKEN,
    ),
    Script(
        "custom diffusion", "examples/custom_diffusion/train_custom_diffusion.py", ("stable-diffusion",),
        _custom_diffusion, ("pytorch_custom_diffusion_weights.safetensors", f"{TOKEN}.safetensors"),
        _load_custom, f"{TOKEN} {{word}}",
    ),
)  # fmt: skip
