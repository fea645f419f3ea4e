"""The stages of the networks that read pages: recogniser, CLIP and segmenter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPSegForImageSegmentation

from perfusion_registry.storybook2.recogniser import SIZE, Recogniser
from perfusion_registry.storybook2.training.assembly import save_reader
from perfusion_registry.storybook2.training.contrast import ClipLearner, Lessons, captions_found
from perfusion_registry.storybook2.training.drawings import (
    Drawing,
    Wording,
    pages_of,
    read_drawing,
    read_drawings,
)
from perfusion_registry.storybook2.training.encoding import tokenised
from perfusion_registry.storybook2.training.pause import wait_while_paused
from perfusion_registry.storybook2.training.plan import Plan
from perfusion_registry.storybook2.training.producing import draw_shards
from perfusion_registry.storybook2.training.recognition import (
    Lesson,
    RecogniserLearner,
    answers_right,
    lesson_of,
    redrawn,
)
from perfusion_registry.storybook2.training.segmenter import (
    Prompted,
    SegmenterLearner,
    intersection_over_union,
    segmenter_config,
)
from perfusion_registry.storybook2.training.stages import (
    chosen_autoencoder,
    held_back,
    images_of,
    pictured,
    shape_of,
    tokenizer_of,
    train_and_fall,
)
from perfusion_registry.storybook2.training.truth import LABELS, truth_of
from perfusion_registry.storybook2.training.work import Work, move_into_place


def redraw(work: Work, plan: Plan) -> None:
    """Keep the first shards and the held-back one as the autoencoder gives them back."""
    vae = None
    for number in [*held_back(plan), *range(plan.budgets.redrawn)]:
        target = work.root / "redrawn" / f"{number:06d}"
        if target.exists():
            continue
        wait_while_paused(work.pause)
        vae = vae or chosen_autoencoder(work).to(plan.machine.device, memory_format=torch.channels_last)
        images = redrawn(vae, images_of(work, [number])[0], str(number)).numpy()
        beside = target.with_name(f"partial-{target.name}")
        beside.mkdir(parents=True, exist_ok=True)
        np.save(beside / "images.npy", images)
        move_into_place(beside, target)
        work.log(f"redrawn shard {number}")


def lessons(work: Work, numbers: Sequence[int], *, through: bool = False) -> list[Lesson]:
    """The shards as the recogniser learns from them. through: as the autoencoder gives them back."""
    found = []
    for number in numbers:
        kept = work.drawings / f"{number:06d}"
        drawing = read_drawing(kept if kept.exists() else work.root / "small" / kept.name)
        images = drawing.images
        if through:
            images = np.load(work.root / "redrawn" / f"{number:06d}" / "images.npy", mmap_mode="r")
        found.append(lesson_of(images, drawing.masks, truth_of(pages_of(number, len(images)))))
    return found


def recogniser(work: Work, plan: Plan) -> None:
    """Train the recogniser; writes `recogniser.safetensors`, and what it answers right to the log."""
    target = work.root / "recogniser.safetensors"
    if target.exists():
        return
    redraw(work, plan)
    read = range(max(plan.budgets.read, plan.budgets.pictured))
    small = read[plan.budgets.pictured :]
    budgets, workers = plan.budgets, plan.machine.workers
    draw_shards(work, work.root / "small", small, count=budgets.shard, workers=workers, size=SIZE)
    drawn = lessons(work, read)
    again = lessons(work, range(plan.budgets.redrawn), through=True)

    def new() -> RecogniserLearner:
        return RecogniserLearner(LABELS, drawn, again, plan.recogniser, device=plan.machine.device)

    learner = train_and_fall(
        work, plan, "recogniser", new, pages=plan.budgets.recogniser, fall=plan.budgets.recogniser_fall
    )
    assert isinstance(learner, RecogniserLearner)
    model = learner.model.eval().requires_grad_(False).cpu()
    model.save(target)
    tell_answers(work, plan, model)


def tell_answers(work: Work, plan: Plan, model: Recogniser) -> dict[str, dict[str, float]]:
    """What the recogniser answers right on held-back pages, as they are and through the autoencoder."""
    found = {}
    for through in (False, True):
        name = "through the autoencoder" if through else "on pages"
        right = [answers_right(model, lesson) for lesson in lessons(work, held_back(plan), through=through)]
        found[name] = {key: sum(r[key] for r in right) / len(right) for key in right[0]}
        told = "  ".join(f"{key} {value:.3f}" for key, value in found[name].items())
        work.log(f"recogniser {name}: {told}")
    (work.root / "recogniser.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def clip(work: Work, plan: Plan) -> None:
    """Train the CLIP model; writes the folder `clip`."""
    target = work.root / "clip"
    if target.exists():
        return
    data = clip_lessons(work, plan, pictured(plan))
    shape = shape_of(work, plan)

    def new() -> ClipLearner:
        return ClipLearner(data, shape, plan.clip, device=plan.machine.device)

    learner = train_and_fall(work, plan, "clip", new, pages=plan.budgets.clip, fall=plan.budgets.clip_fall)
    assert isinstance(learner, ClipLearner)
    model = learner.model.eval().cpu()
    found = captions_found(model, clip_lessons(work, plan, held_back(plan)))
    work.log(f"clip: finds a caption's page among 192 in {found:.1%}")
    beside = target.with_name("clip.partial")
    save_reader(model, tokenizer_of(work), beside)
    beside.rename(target)


def clip_lessons(work: Work, plan: Plan, numbers: Sequence[int]) -> Lessons:
    """The shards as the CLIP model learns from them."""
    drawings = read_drawings(work.drawings, numbers)
    images = torch.cat([_resized(drawing.images, plan.clip.size) for drawing in drawings])
    tokenizer = tokenizer_of(work)
    ids = []
    for drawing in drawings:
        flat = [wording for wordings in drawing.wordings for wording in wordings]
        found = tokenised(tokenizer, flat)[0]
        ids.append(torch.from_numpy(found.reshape(len(drawing.images), -1, found.shape[-1])))
    return Lessons(images, torch.cat(ids))


def segmenter(work: Work, plan: Plan) -> None:
    """Train the segmenter; writes the folder `segmenter`."""
    target = work.root / "segmenter"
    if target.exists():
        return
    data = segmenter_lessons(work, plan, pictured(plan))
    tokenizer = tokenizer_of(work)
    config = segmenter_config(
        plan.segmenter, len(tokenizer), start=tokenizer.bos_token_id, end=tokenizer.eos_token_id
    )

    def new() -> SegmenterLearner:
        return SegmenterLearner(data, config, plan.segmenter, device=plan.machine.device)

    learner = train_and_fall(
        work, plan, "segmenter", new, pages=plan.budgets.segmenter, fall=plan.budgets.segmenter_fall
    )
    assert isinstance(learner, SegmenterLearner)
    model = learner.model.eval().cpu()
    found = mean_overlap(model, segmenter_lessons(work, plan, held_back(plan)))
    work.log(f"segmenter: intersection over union {found:.3f} on pages that it never saw")
    beside = target.with_name("segmenter.partial")
    save_reader(model, tokenizer, beside)
    beside.rename(target)


def segmenter_lessons(work: Work, plan: Plan, numbers: Sequence[int]) -> Prompted:
    """The shards as the segmenter learns from them: a question for every word that stands for something on a
    page."""
    images: list[Tensor] = []
    masks: list[Tensor] = []
    texts: list[Wording] = []
    pages: list[int] = []
    slots: list[int] = []
    for drawing in read_drawings(work.drawings, numbers):
        before = sum(len(part) for part in images)
        images.append(_resized(drawing.images, plan.segmenter.size))
        masks.append(torch.from_numpy(np.array(drawing.masks)))
        for page, slot, text in _named(drawing):
            pages.append(before + page)
            slots.append(slot)
            texts.append(Wording(text, ()))
    ids = tokenised(tokenizer_of(work), texts)[0]
    return Prompted(
        torch.cat(images),
        torch.cat(masks),
        torch.from_numpy(ids),
        torch.tensor(pages),
        torch.tensor(slots),
    )


@torch.no_grad()
def mean_overlap(model: CLIPSegForImageSegmentation, lessons: Prompted, *, batch: int = 64) -> float:
    """The mean intersection over union of a segmenter's answers, over all questions of the lessons."""
    scores = []
    for start in range(0, len(lessons.ids), batch):
        part = slice(start, start + batch)
        x = lessons.images[lessons.page[part]].float() / 127.5 - 1
        truth = lessons.masks[lessons.page[part], lessons.slot[part]].float() / 255
        logits = model(input_ids=lessons.ids[part].long(), pixel_values=x).logits
        logits = logits.view(len(x), 1, *logits.shape[-2:])
        size = truth.shape[-2:]
        found = functional.interpolate(logits, size=size, mode="bilinear")[:, 0] > 0
        seen = truth.flatten(1).amax(1) > 0.5
        scores.append(intersection_over_union(found, truth > 0.5)[seen])
    return float(torch.cat(scores).mean())


def _named(drawing: Drawing) -> list[tuple[int, int, str]]:
    """(page, slot, words) of all nouns in a shard's wordings, each once a page; not those of which a page has
    two."""
    found = []
    for page, wordings in enumerate(drawing.wordings):
        said: dict[str, set[int]] = {}
        for wording in wordings:
            for start, end, slot, kind in wording.spans:
                if kind != 2:
                    said.setdefault(wording.text[start:end].lower(), set()).add(slot)
        found += [(page, slots.pop(), text) for text, slots in said.items() if len(slots) == 1]
    return found


def _resized(images: NDArray[np.uint8], size: int, *, part: int = 100) -> Tensor:
    """Pictures (n, h, w, 3) as (n, 3, size, size) uint8, by area."""
    pieces = []
    for start in range(0, len(images), part):
        x = torch.from_numpy(np.array(images[start : start + part])).permute(0, 3, 1, 2).float()
        pieces.append(functional.interpolate(x, size=(size, size), mode="area").round().byte())
    return torch.cat(pieces)


def export_readers(work: Work, target: Path) -> None:
    """Copy what is trained of recogniser, CLIP and segmenter into the base's folder, in fp16."""
    tokenizer = tokenizer_of(work)
    if (work.root / "clip").exists():
        save_reader(CLIPModel.from_pretrained(work.root / "clip"), tokenizer, target / "clip")
    if (work.root / "segmenter").exists():
        model = CLIPSegForImageSegmentation.from_pretrained(work.root / "segmenter")
        save_reader(model, tokenizer, target / "segmenter")
    path = work.root / "recogniser.safetensors"
    if path.exists():
        Recogniser.load(path, LABELS).save(target / path.name)
