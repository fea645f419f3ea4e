"""The embedded base from nothing: `python -m perfusion_registry.storybook.training WORK all`.

Stages, in order: vocabulary, drawings, autoencoder, decoder, latents, denoiser, clip, recogniser, assemble,
captions, measure. Each keeps its results in the WORK folder; drawings, autoencoder, decoder, denoiser and
recogniser continue where they were stopped. `unpack --start BASE`, instead of vocabulary and autoencoder,
begins with the networks of a finished base, and so does `denoiser --start BASE`. With `--style sepia`, these
stages fine-tune that base on the same world in another hand, its text encoder untouched, and `assemble` takes
its card along:

    python -m perfusion_registry.storybook.training WORK unpack drawings latents denoiser assemble \\
        --start perfusion-storybook/perfusion_storybook/weights --style sepia --shards 4 --encoded 3 \\
        --denoiser-seconds 600 --target sepia

`perf covariance WORK/captions.txt --out .../covariance.safetensors` then completes the folder that `assemble`
wrote; its `perf-base.toml` and README are written by hand.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPModel, CLIPTokenizer

from perfusion_registry.storybook.captions import training_pages
from perfusion_registry.storybook.measure import draw, measure
from perfusion_registry.storybook.recogniser import Recogniser
from perfusion_registry.storybook.training.assembly import pipeline, save_clip, save_pipeline
from perfusion_registry.storybook.training.autoencoder import AutoencoderPlan, psnr, train_autoencoder
from perfusion_registry.storybook.training.contrast import train_clip
from perfusion_registry.storybook.training.denoiser import DenoiserPlan, Model, train_denoiser
from perfusion_registry.storybook.training.drawings import Shard, draw_shard, read_shards
from perfusion_registry.storybook.training.latents import encode_shards
from perfusion_registry.storybook.training.recognition import Lesson, RecogniserPlan, train_recogniser
from perfusion_registry.storybook.training.redrawing import redrawn
from perfusion_registry.storybook.training.sheet import save_sheet
from perfusion_registry.storybook.training.style import STYLES
from perfusion_registry.storybook.training.vocabulary import train_vocabulary

PROMPTS = (
    "a photo of a teddy", "a brown teddy on the beach", "a teddy wearing a wizard hat in the snow",
    "a teddy sailing in a teapot", "a cat in a pot in a garden", "a red teapot in a garden",
    "a cat in outer space", "a yellow teapot in a room", "a knitted cat on the beach",
    "a watercolor of a teddy in a garden", "a dog by the fire", "a gold teapot in the snow",
    "a black cat at night", "a teddy next to a teapot in the snow", "a blue boat on the sea",
    "a dog wearing sunglasses on the beach", "a green chair in a room", "a wooden table in a garden",
    "a glass pot in the snow", "a teddy on a chair in a room",
    "a green teddy with purple ears and a purple heart",
    "a white teapot with blue stripes and a yellow lid", "a cat reading a book by the fire",
    "a teddy sailing in a boat on the sea",
)  # fmt: skip
"""What the sample sheets show."""

BUDGETS = {"autoencoder": 3600, "decoder": 1800, "denoiser": 14400, "clip": 900, "recogniser": 3600}
"""Seconds for the stages that learn, on two cores."""


@dataclass(frozen=True)
class Workshop:
    """The work folder, and the budgets of the stages in seconds."""

    work: Path
    seconds: dict[str, float]
    shards: int
    encoded: int
    redrawn: int
    device: str
    start: Path | None = None
    style: str | None = None

    def tokenizer(self) -> CLIPTokenizer:
        """The trained tokenizer."""
        return CLIPTokenizer.from_pretrained(self.work / "tokenizer")

    def vae(self) -> AutoencoderKL:
        """The trained autoencoder, in fp32."""
        return AutoencoderKL.from_pretrained(self.work / "vae").eval().requires_grad_(False)

    def drawn(self) -> list[Shard]:
        """All shards but the last, which is kept for measuring."""
        return list(read_shards(self.work / "drawings"))[:-1]

    def model(self) -> Model:
        """The averaged text encoder and denoiser of the last checkpoint."""
        model = Model(self.tokenizer())
        saved = torch.load(self.work / "denoiser.pt", weights_only=True, map_location="cpu", mmap=True)
        model.load_state_dict(saved["state"]["average"])
        return model.eval().requires_grad_(False)


def vocabulary(shop: Workshop) -> None:
    """Train the tokenizer."""
    train_vocabulary(shop.work / "tokenizer")


def unpack(shop: Workshop) -> None:
    """Take over the parts of the finished base that `--start` names, to train them on."""
    if shop.start is None:
        raise SystemExit("unpack needs --start, the folder of a finished base")
    for part in ("tokenizer", "vae", "clip"):
        shutil.copytree(shop.start / part, shop.work / part, dirs_exist_ok=True)
    shutil.copy(shop.start / "recogniser.safetensors", shop.work)


def drawings(shop: Workshop) -> None:
    """Paint the shards, one process a core (or on the accelerator)."""
    if shop.device != "cpu":
        for number in range(shop.shards):
            draw_shard(shop.work / "drawings", number, device=shop.device)
        return
    with ProcessPoolExecutor(initializer=partial(torch.set_num_threads, 1)) as pool:
        list(pool.map(partial(draw_shard, shop.work / "drawings"), range(shop.shards)))


def autoencoder(shop: Workshop) -> None:
    """Train the autoencoder."""
    vae = train_autoencoder(
        shop.drawn(), AutoencoderPlan(seconds=shop.seconds["autoencoder"]), shop.work, device=shop.device
    )
    vae.save_pretrained(shop.work / "vae")
    images = torch.from_numpy(list(read_shards(shop.work / "drawings"))[-1].images[:256].copy()).float() / 255
    print(
        f"autoencoder: {psnr(vae.cpu(), images):.2f} dB on {len(images)} pages that it never saw", flush=True
    )


def decoder(shop: Workshop) -> None:
    """Train the autoencoder's decoder on, with the encoder and so the latents as they are."""
    plan = AutoencoderPlan(
        seconds=shop.seconds["decoder"],
        learning_rate=3e-3,
        equivariance=0.0,
        crops_until=0.5,
        decoder_only=True,
    )
    vae = train_autoencoder(shop.drawn(), plan, shop.work, device=shop.device)
    vae.save_pretrained(shop.work / "vae")
    images = torch.from_numpy(list(read_shards(shop.work / "drawings"))[-1].images[:256].copy()).float() / 255
    print(f"decoder: {psnr(vae.cpu(), images):.2f} dB on {len(images)} pages that it never saw", flush=True)


def latents(shop: Workshop) -> None:
    """Encode the drawings."""
    encode_shards(
        shop.drawn()[: shop.encoded], shop.vae().to(shop.device), shop.tokenizer(), shop.work / "latents.pt",
        device=shop.device, style=STYLES[shop.style] if shop.style else None,
    )  # fmt: skip


def denoiser(shop: Workshop) -> None:
    """Train text encoder and denoiser, with a sheet of samples now and then."""
    tokenizer, vae = shop.tokenizer(), shop.vae().to(shop.device)
    encoded = encode_shards([], vae, tokenizer, shop.work / "latents.pt")
    encoded = replace(encoded, **{k: v.to(shop.device) for k, v in encoded.__dict__.items()})

    def sheet(model: Model, state: dict[str, Any]) -> None:
        images = draw(pipeline(vae, model, tokenizer), list(PROMPTS), steps=25, guidance=4.0, seed=100)
        save_sheet(images, PROMPTS, shop.work / "sheets" / f"{state['samples']:08d}.png")
        (shop.work / "denoiser.json").write_text(json.dumps(state["history"]))

    plan = DenoiserPlan(
        seconds=shop.seconds["denoiser"],
        compiled=shop.device != "cpu",
        start=shop.start,
        text_frozen=shop.style is not None,
    )
    train_denoiser(encoded, tokenizer, plan, shop.work, device=shop.device, on_sheet=sheet)


def clip(shop: Workshop) -> None:
    """Train the CLIP model, further where there is one."""
    folder = shop.work / "clip"
    start = CLIPModel.from_pretrained(folder) if folder.exists() else None
    model = train_clip(shop.drawn(), shop.tokenizer(), seconds=shop.seconds["clip"], start=start)
    model.save_pretrained(folder)


def recogniser(shop: Workshop) -> None:
    """Train the recogniser, on drawn pages and on some that went through the autoencoder."""
    drawn = shop.drawn()
    vae = shop.vae().to(shop.device, memory_format=torch.channels_last)
    again = [
        redrawn(shard, number, vae, shop.work / "redrawn", device=shop.device)
        for number, shard in enumerate(drawn[: shop.redrawn])
    ]
    model = train_recogniser(
        [Lesson(shard.images, number) for number, shard in enumerate(drawn)],
        [Lesson(images, number) for number, images in enumerate(again)],
        RecogniserPlan(seconds=shop.seconds["recogniser"]),
        shop.work,
    )
    model.save(shop.work / "recogniser.safetensors")


def assemble(shop: Workshop, target: Path) -> None:
    """Write the diffusers folder with everything beside it."""
    tokenizer = shop.tokenizer()
    save_pipeline(pipeline(shop.vae(), shop.model(), tokenizer), target)
    if (shop.work / "clip").exists():
        save_clip(CLIPModel.from_pretrained(shop.work / "clip"), tokenizer, target / "clip")
    if (shop.work / "recogniser.safetensors").exists():
        Recogniser.load(shop.work / "recogniser.safetensors").save(target / "recogniser.safetensors")
    if shop.style is not None and shop.start is not None:  # the same text encoder: the same covariance
        for name in ("perf-base.toml", "covariance.safetensors"):
            shutil.copy(shop.start / name, target)


def captions(count: int, path: Path) -> None:
    """Write captions of the grammar, one a line, for `perf covariance`."""
    pages = training_pages(Random("covariance"))
    path.write_text("".join(next(pages)[1] + "\n" for _ in range(count)))


def measured(shop: Workshop, count: int) -> None:
    """Print the recogniser's table and draw a sheet of what it judged."""
    pipe = pipeline(shop.vae(), shop.model(), shop.tokenizer())
    result, pictures = measure(pipe, Recogniser.load(shop.work / "recogniser.safetensors"), count=count)
    for name, share, required in result.rows():
        print(f"{share:6.1%}  {name} (required: {required:.0%})", flush=True)
    shown = [*pictures[:24], *pictures[-24:]]
    save_sheet(
        torch.stack([image for _, image in shown]), [q.prompt for q, _ in shown], shop.work / "measured.png"
    )


def main() -> None:
    """Run the named stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder for everything that the stages keep")
    parser.add_argument("stages", nargs="+", help="stages by name, or `all`")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shards", type=int, default=26, help="shards of 4,000 drawings")
    parser.add_argument("--encoded", type=int, default=25, help="shards that the denoiser trains on")
    parser.add_argument(
        "--redrawn", type=int, default=2, help="shards that the recogniser sees through the autoencoder too"
    )
    parser.add_argument("--target", type=Path, help="folder that `assemble` writes (WORK/storybook)")
    parser.add_argument(
        "--start", type=Path, help="folder of a finished base to train on, instead of from nothing"
    )
    parser.add_argument("--style", choices=sorted(STYLES), help="another hand, to fine-tune --start on")
    parser.add_argument("--count", type=int, default=200, help="prompts of each kind that `measure` draws")
    for name, seconds in BUDGETS.items():
        parser.add_argument(f"--{name}-seconds", type=float, default=seconds)
    options = parser.parse_args()
    budgets = {
        n: getattr(options, f"{n}_seconds")
        for n in ("autoencoder", "decoder", "denoiser", "clip", "recogniser")
    }
    if options.style and options.start is None:
        parser.error("--style needs --start, the folder of a finished base")
    shop = Workshop(
        options.work,
        budgets,
        options.shards,
        options.encoded,
        options.redrawn,
        options.device,
        options.start,
        options.style,
    )
    target = options.target or options.work / "storybook"
    stages: dict[str, Callable[[], None]] = {
        "unpack": partial(unpack, shop),
        "vocabulary": partial(vocabulary, shop),
        "drawings": partial(drawings, shop),
        "autoencoder": partial(autoencoder, shop),
        "decoder": partial(decoder, shop),
        "latents": partial(latents, shop),
        "denoiser": partial(denoiser, shop),
        "clip": partial(clip, shop),
        "recogniser": partial(recogniser, shop),
        "assemble": partial(assemble, shop, target),
        "captions": partial(captions, 100_000, options.work / "captions.txt"),
        "measure": partial(measured, shop, options.count),
    }
    wanted = [name for name in stages if name != "unpack"] if options.stages == ["all"] else options.stages
    for name in wanted:
        if name not in stages:
            parser.error(f"no stage {name!r}; there are {', '.join(stages)}")
        stages[name]()


if __name__ == "__main__":
    main()
