"""Two LoRAs in one picture on Storybook: trained by peft on two drawn individuals, imported, drawn in each
way.

Each LoRA is DreamBooth's: low-rank additions to the attention of the denoiser and of the text encoder,
learned from the five reference pictures under "a photo of a sks teddy", by peft and diffusers alone, in
diffusers' own dialect. A picture counts for an individual where the recogniser finds it most like that one
among 20 of its kind, drawn by hand in the same company and place. Every step is resumable: what is in the
folder is kept.

    python -m benchmarks.loras train out/loras teddy teapot
    python -m benchmarks.loras draw out/loras teddy teapot --seeds 8
    python -m benchmarks.loras draw out/loras teddy              # alone: what could be reached at best
    python -m benchmarks.loras report out/loras
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from perfusion_registry.artifact import Artifact, ConceptCard
from perfusion_registry.base import Base, BaseDescription, describe_base, load_base
from perfusion_registry.compose import Concept, compose, parse_prompt
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.methods.lora.importing import imported
from perfusion_registry.methods.lora.options import DrawOptions, NoTraining
from perfusion_registry.render import native_values, render, resolve_request
from perfusion_registry.storybook.cast import CAST, reference_images
from perfusion_registry.storybook.judgement import (
    Portrayed,
    identified,
    look_alikes,
    own_looks,
    portraits,
    shown,
)
from perfusion_registry.storybook.reading import asked
from perfusion_registry.storybook.recogniser import Recogniser

RARE = "sks"
RANK = 8
PARTS = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_PARTS = ("q_proj", "v_proj")


def train(folder: Path, name: str, *, steps: int, rate: float, batch: int, seed: int = 0) -> Path:
    """Learn one of the cast as a LoRA, in diffusers' dialect; the file."""
    file = folder / f"{name}.safetensors"
    if file.exists():
        return file
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    base = load_base(describe_base("storybook"))
    pipe, dice = base.pipe, torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    unet, text = pipe.unet, pipe.text_encoder.float()
    for model, parts in ((unet, PARTS), (text, TEXT_PARTS)):
        model.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(parts)))
    learned = [p for model in (unet, text) for p in model.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=1e-2)
    with torch.no_grad():
        mean, std = _posteriors(base, name)
    ids = pipe.tokenizer(
        f"a photo of a {RARE} {CAST[name].category}",
        padding="max_length",
        max_length=base.text_length,
        return_tensors="pt",
    ).input_ids
    checkpoint, begun = folder / f"{name}.checkpoint.pt", 0
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        begun = kept["step"]
        for parameter, value in zip(learned, kept["learned"], strict=True):
            parameter.data = value
        optimizer.load_state_dict(kept["optimizer"])
        dice.set_state(kept["dice"])
    for step in range(begun, steps):
        index = torch.randint(len(mean), (batch,), generator=dice)
        noise = torch.randn(batch, *mean.shape[1:], generator=dice)
        latents = mean[index] + std[index] * torch.randn(noise.shape, generator=dice)
        t = torch.randint(pipe.scheduler.config.num_train_timesteps, (batch,), generator=dice)
        noisy = pipe.scheduler.add_noise(latents, noise, t)
        prediction = pipe.scheduler.config.prediction_type
        wanted = noise if prediction == "epsilon" else pipe.scheduler.get_velocity(latents, noise, t)
        states = text(ids)[0].expand(batch, -1, -1)
        loss = (unet(noisy, t, states).sample.float() - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            print(f"{name}: step {step + 1} of {steps}, loss {loss.item():.4f}", flush=True)
            torch.save(
                {
                    "step": step + 1,
                    "learned": [p.data for p in learned],
                    "optimizer": optimizer.state_dict(),
                    "dice": dice.get_state(),
                },
                checkpoint,
            )
    StableDiffusionPipeline.save_lora_weights(
        str(folder),
        unet_lora_layers=_plain(get_peft_model_state_dict(unet)),
        text_encoder_lora_layers=_plain(convert_state_dict_to_diffusers(get_peft_model_state_dict(text))),
        weight_name=file.name,
    )
    checkpoint.unlink(missing_ok=True)
    return file


def _posteriors(base: Base, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the reference pictures whole and smaller on a field of their border's colour, as the base's card has
    `sizes`: this world draws a thing smaller where it has company."""
    from perfusion_registry.build.framing import framed

    height, _ = base.picture_size
    pixels = reference_images(CAST[name], size=height)
    shown, _ = framed(pixels, torch.ones(len(pixels), 1, *pixels.shape[-2:]), (1.0, 1.0, 0.75, 0.6), 0)
    posterior = base.latents(shown)
    return posterior.mean, posterior.std


def _plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().float().contiguous() for name, value in state.items()}


WAYS = {
    "plain sum": {"reach": "everywhere"},
    "localised": {"reach": "localised"},
    "gated and localised": {"reach": "gated"},
}
TEMPLATES = (
    "a {0} next to a {1}",
    "a photo of a {0} next to a {1} in a garden",
    "a {0} next to a {1} in the snow",
    "a {0} and a {1} on the beach",
    "a {0} next to a {1} by the fire",
    "a {0} next to a {1} at night",
)
"""Those of the paper's suite for two concepts."""
ALONE = tuple(template.replace(" next to a {1}", "").replace(" and a {1}", "") for template in TEMPLATES)


def concept(base: Base, file: Path, name: str) -> Concept:
    """A LoRA's file as `perf import` makes a concept of it."""
    assert isinstance(base.description, BaseDescription)
    made = imported(file, base.description, name)
    kind = CAST[name].category
    card = ConceptCard(
        method="lora",
        name=name,
        version="1.0.0",
        supercategory=kind,
        word=f"{RARE} {kind}",
        architecture=base.description.architecture,
        family=base.description.family,
        base=base.description.repo,
        train=NoTraining(),
        render=DrawOptions(),
        built=made.built,
    )
    return Concept(Artifact(card, made.tensors), "0" * 64)


def draw(folder: Path, names: list[str], ways: list[str], seeds: int, strength: float) -> None:
    """Draw one, or both in one picture, each way, and note who is recognised; what is noted stays."""
    base = load_base(describe_base("storybook"))
    concepts = {name: concept(base, folder / f"{name}.safetensors", name) for name in names}
    recogniser = Recogniser.load(base.description.folder / "recogniser.safetensors")
    pair = [CAST[name] for name in names]
    notes = folder / "notes.jsonl"
    rows = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    done = {(row["pair"], row["way"], row["prompt"], row["seed"], row["strength"]) for row in rows}
    for at, template in enumerate(TEMPLATES if len(pair) == 2 else ALONE):
        question = asked(template.format(*(one.category for one in pair)))
        known = [
            portraits(
                recogniser,
                base,
                one.category,
                [(*pair[:number], other, *pair[number + 1 :]) for other in look_alikes(one)],
                question.relation,
                question.scene,
                None,
            )
            for number, one in enumerate(pair)
        ]
        for way in ways:
            todo = [s for s in range(seeds) if (" ".join(names), way, template, s, strength) not in done]
            if not todo:
                continue
            general = {**WAYS[way], "strength": strength}
            composition = compose(
                parse_prompt(template.format(*(f"{name}*" for name in names))),
                concepts,
                base,
                SettingSources(command_all=general),
            )
            given = {"seeds": tuple(todo), "batch": 4}
            request = resolve_request(given, base.description.card.render, native=native_values(base))
            begun, pictures = time.monotonic(), []
            for drawn in render(base, composition, request, {n: c.artifact for n, c in concepts.items()}):
                place = folder / "pictures" / f"{'-'.join(names)}" / way.replace(" ", "-")
                place.mkdir(parents=True, exist_ok=True)
                drawn.image.save(place / f"{at}-{drawn.seed}-{strength:g}.png")
                pixels = torch.frombuffer(bytearray(drawn.image.tobytes()), dtype=torch.uint8)
                pictures.append(pixels.view(*drawn.image.size[::-1], 3).permute(2, 0, 1).float() / 255)
            images = torch.stack(pictures)
            told = [
                identified(recogniser.describe(images, one.category), portrayed)
                for one, portrayed in zip(pair, known, strict=True)
            ]
            looks = [Portrayed(one.category, own_looks(recogniser, one)) for one in pair]
            by_colour = shown(recogniser.recognise(images), question, looks)
            seconds = (time.monotonic() - begun) / len(todo)
            with notes.open("a") as file:
                for index, seed in enumerate(todo):
                    row = {
                        "pair": " ".join(names),
                        "way": way,
                        "prompt": template,
                        "seed": seed,
                        "strength": strength,
                        "identified": [bool(each[index]) for each in told],
                        "both": by_colour[index].get("both", 0.0),
                        "seconds": round(seconds, 2),
                    }
                    file.write(json.dumps(row) + "\n")
            report(folder)


def report(folder: Path) -> None:
    """Print what was noted, by pair, strength and way."""
    rows = [json.loads(line) for line in (folder / "notes.jsonl").read_text().splitlines()]
    for key in dict.fromkeys((row["pair"], row["strength"], row["way"]) for row in rows):
        own = [row for row in rows if (row["pair"], row["strength"], row["way"]) == key]
        each = [sum(told) / len(own) for told in zip(*(row["identified"] for row in own), strict=True)]
        both = sum(all(row["identified"]) for row in own) / len(own)
        colours = sum(row["both"] for row in own) / len(own)
        print(
            f"{key[0]:16} {key[1]:4} {key[2]:22} {len(own):4} pictures: told from look-alikes "
            f"{' '.join(f'{share:4.0%}' for share in each)}, both {both:4.0%}; both by colour {colours:4.0%}",
            flush=True,
        )


def main() -> None:
    """Train, draw or report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "draw", "report"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="of the cast: all to train, one or two to draw")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=4, help="pictures of each prompt")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.what == "train":
        for name in options.names:
            train(options.folder, name, steps=options.steps, rate=options.rate, batch=options.batch)
    elif options.what == "draw":
        draw(options.folder, options.names, options.ways, options.seeds, options.strength)
    else:
        report(options.folder)


if __name__ == "__main__":
    main()
