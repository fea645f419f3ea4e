"""What the embedded base can draw, measured by the recogniser on prompts that training never saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from perfusion_registry.storybook.captions import held_out_pages
from perfusion_registry.storybook.recogniser import LOOKS, PLACES, Recogniser
from perfusion_registry.storybook.training.precision import autocast
from perfusion_registry.storybook.world import CATEGORIES


@dataclass(frozen=True)
class Measurement:
    """Shares in 0..1 of what was asked for and recognised, and how many pictures each share is over."""

    category: float
    scene: float
    look: float
    both: float
    singles: int
    pairs: int

    def rows(self) -> list[tuple[str, float, float]]:
        """Name, measured share, required share."""
        return [
            ("the category, in pictures of one object", self.category, 0.90),
            ("the scene", self.scene, 0.95),
            ("the colour or material", self.look, 0.80),
            ("both objects of two", self.both, 0.65),
        ]


@dataclass(frozen=True)
class Question:
    """A prompt and what its picture must show: categories, the look of the first one, a place ("" for
    any)."""

    prompt: str
    categories: tuple[str, ...]
    look: str | None
    place: str


def single_questions(rng: Random) -> Iterator[Question]:
    """Endless prompts such as "a photo of a gold cat in the snow" from held-out pages."""
    for page, _ in held_out_pages(rng):
        if page.relation is None and page.style is None and page.scene:
            one = page.subjects[0]
            look = one.material or one.colour
            article = "an" if look[0] in "aeiou" else "a"
            prompt = f"a photo of {article} {look} {one.category} {page.scene}"
            yield Question(prompt, (one.category,), look, page.scene)


def pair_questions(rng: Random) -> Iterator[Question]:
    """Endless prompts such as "a cat in a pot at night" from held-out pages."""
    for page, _ in held_out_pages(rng):
        if page.relation and page.style is None and page.scene:
            a, b = (one.category for one in page.subjects)
            yield Question(f"a {a} {page.relation} a {b} {page.scene}", (a, b), None, page.scene)


def measure(
    pipe: Any,
    recogniser: Recogniser,
    *,
    count: int = 200,
    steps: int = 50,
    guidance: float = 4.0,
    seed: int = 77,
) -> tuple[Measurement, list[tuple[Question, Tensor]]]:
    """Draw `count` single and `count` two-object prompts and recognise them; the pictures (3, h, w) come
    too."""
    rng = Random(f"measure {seed}")
    singles = [q for q, _ in zip(single_questions(rng), range(count), strict=False)]
    pairs = [q for q, _ in zip(pair_questions(rng), range(count), strict=False)]
    questions = [*singles, *pairs]
    images = draw(pipe, [q.prompt for q in questions], steps=steps, guidance=guidance, seed=seed * 1000)
    found = recogniser.recognise(images)
    category, scene, look, both = [], [], [], []
    for row, question in enumerate(questions):
        kinds = [CATEGORIES.index(c) for c in question.categories]
        present = [bool(found.present[row, k] > 0.5) for k in kinds]
        scene.append(PLACES[int(found.place[row].argmax())] == question.place)
        if len(kinds) == 2:
            both.append(all(present))
            continue
        category.append(present[0])
        look.append(LOOKS[int(found.look[row, kinds[0]].argmax())] == question.look)
    result = Measurement(
        _share(category), _share(scene), _share(look), _share(both), len(singles), len(pairs)
    )
    return result, list(zip(questions, images, strict=True))


@torch.no_grad()
def draw(pipe: Any, prompts: list[str], *, steps: int, guidance: float, seed: int, batch: int = 16) -> Tensor:
    """Pictures (B, 3, h, w) in 0..1 of the prompts; the k-th has the seed `seed + k`, whatever its batch."""
    images = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        generators = [torch.Generator().manual_seed(seed + start + k) for k in range(len(part))]
        with autocast(pipe.device):
            images.append(
                pipe(
                    part,
                    num_inference_steps=steps,
                    guidance_scale=guidance,
                    generator=generators,
                    output_type="pt",
                ).images.float()
            )
    return torch.cat(images).cpu()


def _share(values: list[bool]) -> float:
    return sum(values) / len(values) if values else float("nan")
