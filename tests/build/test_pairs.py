"""Pairs: where a concept's image goes in a picture of two things, and what is learned from there."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base
from perfusion_registry.build import ConceptSources, Covariance, build_concept
from perfusion_registry.build.masks import attention_masks
from perfusion_registry.build.pairs import PICTURES, REST, draw_pairs, paste
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.reporter import Silent
from tests.build.test_training import FAST, covariance, inputs_of, photos

__all__ = ["covariance", "photos"]

TEMPLATES = ("a cat next to a {}", "a {} in a boat")


def box(size: tuple[int, int], top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, *size)
    mask[..., top:bottom, left:right] = 1
    return mask


def test_the_concept_covers_the_area_of_the_place_and_stands_on_its_ground() -> None:
    images = torch.zeros(1, 3, 32, 32)
    images[:, 0, 8:24, 12:20] = 1  # a red pillar, 16 high and 8 wide
    pictures = torch.full((1, 3, 64, 64), 0.5)
    shown, weights = paste(images, box((32, 32), 8, 24, 12, 20), pictures, box((64, 64), 24, 56, 4, 36))
    # As large as a place of 32 x 32 and twice as high as wide: 45 x 22, with its foot at 56.
    rows, columns = (weights[0, 0] == 1).nonzero(as_tuple=True)
    assert int(rows.max()) + 1 == 56
    # The place begins at 24, so the pillar's head is not seen: something else may be there.
    assert int(rows.min()) == 24
    assert (int(columns.min()), int(columns.max()) + 1) == (9, 31)
    inside = weights[0, 0] == 1
    assert torch.equal(shown[0][:, inside].unique(), torch.tensor([0.0, 1.0]))
    assert torch.equal(shown[0, 0][inside].unique(), torch.tensor([1.0]))
    # Of what the base drew, the rest counts a little, and its own thing in the concept's place does not.
    place = box((64, 64), 24, 56, 4, 36)[0, 0] == 1
    assert torch.equal(weights[0, 0][~place].unique(), torch.tensor([REST]))
    assert torch.equal(weights[0, 0][place & ~inside].unique(), torch.tensor([0.0]))
    assert torch.equal(shown[0][:, ~inside].unique(), torch.tensor([0.5]))


@pytest.mark.parametrize("corner", [(0, 6, 0, 30), (58, 64, 34, 64), (0, 64, 0, 64)])
def test_it_lies_inside_of_the_frame(corner: tuple[int, int, int, int]) -> None:
    dice = torch.Generator().manual_seed(1)
    images, pictures = torch.rand(2, 3, 16, 48, generator=dice), torch.rand(3, 3, 64, 64, generator=dice)
    place = box((64, 64), *corner).expand(3, -1, -1, -1)
    shown, weights = paste(images, torch.ones(2, 1, 16, 48), pictures, place)
    assert shown.shape == pictures.shape
    assert 0 <= float(shown.min()) <= float(shown.max()) <= 1
    assert bool((weights.amax((1, 2, 3)) == 1).all())
    elsewhere = place.expand_as(shown) == 0
    assert torch.equal(shown[elsewhere], pictures[elsewhere])
    assert bool((weights[place == 0] == REST).all())


def test_where_the_base_looks_nowhere_the_image_is_laid_over_all() -> None:
    images, pictures = torch.full((1, 3, 8, 8), 0.25), torch.ones(2, 3, 16, 16)
    places = torch.stack([torch.zeros(1, 16, 16), torch.full((1, 16, 16), torch.nan)])
    shown, weights = paste(images, torch.ones(1, 1, 8, 8), pictures, places)
    assert torch.equal(shown, torch.full_like(shown, 0.25))
    assert torch.equal(weights, torch.ones_like(weights))


def test_images_take_turns() -> None:
    images = torch.stack([torch.full((3, 8, 8), value) for value in (0.1, 0.2)])
    pictures, whole = torch.ones(5, 3, 16, 16), torch.ones(5, 1, 16, 16)
    shown, weights = paste(images, torch.ones(2, 1, 8, 8), pictures, whole)
    assert bool((weights == 1).all())
    assert [round(float(one.mean()), 4) for one in shown] == [0.1, 0.2, 0.1, 0.2, 0.1]


def test_the_base_draws_the_plain_words(tiny_base: Base) -> None:
    shown, places = draw_pairs(tiny_base, TEMPLATES, "teddy", (4, 8, 8), seed=3, steps=2, guidance=3.0)
    assert shown.shape == (len(TEMPLATES) * PICTURES, 3, 64, 64)
    again = draw_pairs(tiny_base, TEMPLATES, "teddy", (4, 8, 8), seed=3, steps=2, guidance=3.0)
    assert torch.equal(shown, again[0])
    assert torch.equal(places, again[1])
    # As diffusers' own pipeline draws the same words from the same noise.
    from diffusers import DPMSolverMultistepScheduler

    pipe = tiny_base.pipe
    noise = torch.randn(len(shown), *(4, 8, 8), generator=torch.Generator().manual_seed(3))
    asked = [text.format("teddy") for text in TEMPLATES for _ in range(PICTURES)]
    plain = type(pipe)(**{**pipe.components, "scheduler": DPMSolverMultistepScheduler.from_config(
        pipe.scheduler.config
    )})  # fmt: skip
    plain.set_progress_bar_config(disable=True)
    wanted = plain(asked, num_inference_steps=2, guidance_scale=3.0, latents=noise, output_type="pt").images
    assert float((shown - wanted).abs().max()) < 0.02
    # And each place is that of its own prompt's word.
    alone = attention_masks(tiny_base, shown[2:3], "teddy", TEMPLATES[1:])
    assert float((places[2:3] - alone).abs().max()) < 1e-3
    other = attention_masks(tiny_base, shown[2:3], "teddy")
    assert float((alone - other).abs().max()) > 1e-3


def test_a_pair_goes_with_its_own_prompt_only(tiny_base: Base, covariance: Covariance) -> None:
    options = FAST.model_copy(update={"pair_prompts": TEMPLATES, "pair_share": 0.3, "batch": 64})
    inputs = inputs_of(tiny_base, covariance, options)
    prompts = Prompts.of(tiny_base, [*options.templates, *TEMPLATES], "teddy")
    rows = (9, 10)
    inputs = dataclasses.replace(inputs, prompts=prompts, pairs=rows)  # the last two of four latents
    dice = torch.Generator().manual_seed(0)
    batches = [inputs.drawn(dice) for _ in range(50)]
    pictures, templates = (torch.cat(parts) for parts in zip(*batches, strict=True))
    accompanied = pictures >= 2
    assert torch.equal(templates[accompanied], pictures[accompanied] + 7)
    assert bool((templates[~accompanied] < 9).all())
    assert templates.unique().tolist() == list(range(11))
    assert pictures.unique().tolist() == [0, 1, 2, 3]
    assert abs(float(accompanied.float().mean()) - 0.3) < 0.03


def test_without_pairs_the_draws_are_as_ever(tiny_base: Base, covariance: Covariance) -> None:
    inputs = inputs_of(tiny_base, covariance, FAST)
    dice = torch.Generator().manual_seed(5)
    pictures, templates = inputs.drawn(dice)
    by_hand = torch.Generator().manual_seed(5)
    assert torch.equal(pictures, torch.randint(4, (FAST.batch,), generator=by_hand))
    assert torch.equal(templates, torch.randint(9, (FAST.batch,), generator=by_hand))
    assert torch.equal(dice.get_state(), by_hand.get_state())


class Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_build_learns_in_pairs_and_leaves_out_what_names_the_concept_itself(
    tiny_base: Base, covariance: Covariance, photos
) -> None:
    def built(told: Told, *pair_prompts: str) -> Artifact:
        options = FAST.model_copy(update={"pair_prompts": pair_prompts})
        bear = ConceptSources("bear", "1.0.0", "teddy", photos)
        return build_concept(
            tiny_base, covariance, bear, options, RenderOptions(), digest="0" * 64, reporter=told
        )

    told = Told()
    alone, beside = built(told), built(told, *TEMPLATES)
    assert not told.notes
    assert not torch.equal(alone.tensors["embedding"], beside.tensors["embedding"])
    same = built(told, "a Teddy next to a {}", *TEMPLATES[:1])
    assert told.notes == ["bear: the pair 'a Teddy next to a {}' names another teddy; left out"]
    assert not torch.equal(same.tensors["embedding"], beside.tensors["embedding"])


def test_pairs_are_drawn_at_the_size_of_the_concepts_pictures(
    tiny_base: Base, covariance: Covariance, photos
) -> None:
    card = tiny_base.description.card.model_copy(update={"render": {"height": 64, "width": 96}})
    base = dataclasses.replace(tiny_base, description=dataclasses.replace(tiny_base.description, card=card))
    options = FAST.model_copy(update={"pair_prompts": TEMPLATES})
    bear = ConceptSources("bear", "1.0.0", "teddy", photos)
    made = build_concept(base, covariance, bear, options, RenderOptions(), digest="0" * 64)
    assert bool(torch.isfinite(made.tensors["embedding"]).all())


def test_options_that_came_later_change_no_older_key() -> None:
    assert "company" not in TrainOptions().model_dump()
    assert "company_share" not in TrainOptions().model_dump(mode="json")
    said = TrainOptions(pair_prompts=TEMPLATES).model_dump(mode="json")
    assert said["company"] == list(TEMPLATES)
    assert TrainOptions.model_validate_json(
        TrainOptions(pair_prompts=TEMPLATES).model_dump_json()
    ) == TrainOptions(pair_prompts=TEMPLATES)
    assert TrainOptions.model_validate(TrainOptions().model_dump()) == TrainOptions()
