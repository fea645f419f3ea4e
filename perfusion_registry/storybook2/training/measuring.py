"""What a trained base draws of what it is asked for, in numbers: the stage `measure`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perfusion_registry.storybook2.everyday import all_shown, everyday_prompts, page_for
from perfusion_registry.storybook2.judgement import Recognised
from perfusion_registry.storybook2.recogniser import Recogniser
from perfusion_registry.storybook2.training.assembly import drawn_by, pipeline
from perfusion_registry.storybook2.training.exchange import exchange
from perfusion_registry.storybook2.training.painting import chosen
from perfusion_registry.storybook2.training.plan import Plan
from perfusion_registry.storybook2.training.questions import KINDS, Question, answers, questions, wilson
from perfusion_registry.storybook2.training.recognition import redrawn
from perfusion_registry.storybook2.training.sheet import save_sheet
from perfusion_registry.storybook2.training.stages import best_decoder, tokenizer_of
from perfusion_registry.storybook2.training.swap import swap
from perfusion_registry.storybook2.training.truth import LABELS
from perfusion_registry.storybook2.training.work import Work

_SHOWN = 24  # pictures of a kind on its sheet


def measure(work: Work, plan: Plan) -> dict[str, Any]:
    """Ask the base `plan.measure.pictures` questions of each kind, and have the recogniser answer for its
    pictures, for the pages themselves and for these through the autoencoder; writes `measure.json`, a sheet
    of each kind, and the log."""
    recogniser = Recogniser.load(work.root / "recogniser.safetensors", LABELS)
    vae, steps, guidance = best_decoder(work), plan.measure.steps, plan.measure.guidance
    pipe = pipeline(vae, chosen(work), tokenizer_of(work), sampler=plan.measure.sampler)
    rows: dict[str, Any] = {}
    for kind in KINDS:
        asked = questions(kind, plan.measure.pictures)
        prompts, pages = [question.prompt for question in asked], _pages(asked)
        pictures = drawn_by(pipe, prompts, steps=steps, guidance=guidance)
        save_sheet(pictures[:_SHOWN], prompts[:_SHOWN], work.sheets / f"measure-{kind.replace(' ', '-')}.png")
        sources = {
            "pictures": pictures,
            "pages": _floats(torch.from_numpy(pages)),
            "pages through the autoencoder": _floats(redrawn(vae, pages, f"measure/{kind}", off=0.0)),
        }
        rows[kind] = {name: _shares(answers(recogniser, images, asked)) for name, images in sources.items()}
        for name, shares in rows[kind].items():
            told = "  ".join(f"{what} {row['share']:.3f}" for what, row in shares.items())
            work.log(f"measure, {kind}, {name}: {told}")
    rows["everyday"] = _everyday(work, pipe, recogniser, vae, plan)
    for name, shares in rows["everyday"].items():
        work.log(f"measure, everyday, {name}: all {shares['all']['share']:.3f}")
    asked = questions("two things", plan.measure.pictures)
    rows["exchange"] = asdict(exchange(pipe, recogniser, asked, steps=steps, guidance=guidance))
    asked = questions("one thing", plan.measure.pictures)
    rows["key swap"] = asdict(swap(pipe, recogniser, asked, steps=steps, guidance=guidance))
    for name in ("exchange", "key swap"):
        work.log(f"measure, {name}: " + "  ".join(f"{what} {value}" for what, value in rows[name].items()))
    (work.root / "measure.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


def _everyday(work: Work, pipe: Any, recogniser: Recogniser, vae: Any, plan: Plan) -> dict[str, Any]:
    """Whether all that everyday prompts ask for is there, each with several seeds; and on pages of it."""
    prompts = everyday_prompts()
    prompts = tuple(prompts[k % len(prompts)] for k in range(plan.measure.pictures))
    pages = np.stack([page_for(text, Random(f"everyday {k}")).draw().image for k, text in enumerate(prompts)])
    pictures = drawn_by(pipe, list(prompts), steps=plan.measure.steps, guidance=plan.measure.guidance)
    save_sheet(pictures[:_SHOWN], prompts[:_SHOWN], work.sheets / "measure-everyday.png")
    sources = {
        "pictures": pictures,
        "pages": _floats(torch.from_numpy(pages)),
        "pages through the autoencoder": _floats(redrawn(vae, pages, "measure/everyday", off=0.0)),
    }
    return {
        name: _shares(
            {
                "all": [
                    all_shown(Recognised(recogniser, images[k : k + 1]), text)[0]
                    for k, text in enumerate(prompts)
                ]
            }
        )
        for name, images in sources.items()
    }


def _pages(asked: Sequence[Question]) -> NDArray[np.uint8]:
    return np.stack([question.page.draw().image for question in asked])


def _floats(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 255


def _shares(right: Mapping[str, Sequence[bool]]) -> dict[str, dict[str, float]]:
    found = {}
    for what, answered in right.items():
        low, high = wilson(sum(answered), len(answered))
        found[what] = {"share": sum(answered) / len(answered), "low": low, "high": high, "of": len(answered)}
    return found
