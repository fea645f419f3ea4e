"""What a base is asked, who answers, and what exchanged keys are."""

from __future__ import annotations

import copy
import math
from functools import partial
from importlib.resources import files

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from transformers import CLIPTokenizer

from perfusion_registry.storybook2.grammar import is_held_out
from perfusion_registry.storybook2.recogniser import Recogniser
from perfusion_registry.storybook2.training.denoiser import DenoiserShape, Model
from perfusion_registry.storybook2.training.exchange import attention_kept, exchanged
from perfusion_registry.storybook2.training.keys import keys_of, nouns_of
from perfusion_registry.storybook2.training.questions import KINDS, answers, questions, wilson
from perfusion_registry.storybook2.training.swap import in_place_of
from perfusion_registry.storybook2.training.truth import LABELS, truth_of

SHAPE = DenoiserShape(
    vocabulary=50, start=48, end=49, channels=4, widths=(16, 16), heads=2, text=16, text_layers=1
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_shows_what_its_question_asks_for(kind: str) -> None:
    asked = questions(kind, 3)
    assert asked == questions(kind, 3)
    truth = truth_of([question.page for question in asked])
    for row, question in enumerate(asked):
        assert is_held_out(question.page)
        for slot, (noun, colour) in enumerate(question.things):
            assert LABELS.nouns[truth.things[row, slot]] == noun
            assert LABELS.traits["main"][truth.traits["main"][row, slot]] == colour
            start, end, at, _ = question.wording.spans[slot]
            assert (question.prompt[start:end], at) == (noun, slot)
            assert f"{colour} {noun}" in question.prompt
        assert LABELS.wholes["place"][truth.wholes["place"][row]] == question.place
        if question.relation is not None:
            assert LABELS.relations[truth.relation[row]] == question.relation


def test_answers_are_those_of_the_recogniser() -> None:
    torch.manual_seed(0)
    model = Recogniser(LABELS).eval()
    asked = questions("left of", 4)
    images = torch.rand(4, 3, 128, 128)
    with torch.no_grad():
        model.absence.fill_(50.0)  # everything is there
        told = answers(model, images, asked, batch=3)
        assert told["things"] == [True] * 4
        one = answers(model, images[3:], asked[3:])
        assert {name: values[3:] for name, values in told.items()} == one
        look = model.look(images)
        for row, question in enumerate(asked):
            (noun, colour), (other, _) = question.things
            first, second = (torch.tensor([LABELS.nouns.index(name)]) for name in (noun, other))
            part = type(look)(*(value[row : row + 1] for value in look))
            stands = LABELS.relations[int(model.relations(part, first, second).argmax())]
            assert told["relation"][row] is (stands == "left of")
            if told["colours"][row]:
                assert LABELS.traits["main"][int(model.traits(part, first)["main"].argmax())] == colour
        model.absence.fill_(-50.0)
        told = answers(model, images, asked)
    assert not any(told["things"] + told["colours"] + told["relation"])


@pytest.mark.parametrize(("right", "of"), [(0, 10), (7, 10), (200, 200), (131, 200)])
def test_the_interval_is_wilsons(right: int, of: int) -> None:
    """Its ends are the shares that are just 1.96 of their own deviations away."""
    for end in wilson(right, of):
        deviation = math.sqrt(max(0.0, end * (1 - end)) / of)
        assert abs(right / of - end) == pytest.approx(1.96 * deviation, abs=1e-9)


def test_exchanged_keys_are_those_of_the_other_token() -> None:
    """Against weights that do the same to all rows at once: K of a permuted prompt, V of the prompt."""
    torch.manual_seed(0)
    unet = Model(SHAPE).unet.eval().requires_grad_(False)
    unet.set_attn_processor(AttnProcessor2_0())
    z, text = torch.randn(4, 4, 16, 16), torch.randn(4, 48, 16)
    tokens = torch.tensor([[2, 5], [7, 3]])
    plain = unet(z, 500, text).sample
    with keys_of(unet, partial(exchanged, tokens=tokens)):
        found = unet(z, 500, text).sample
    assert torch.equal(found[:2], plain[:2])
    assert not torch.allclose(found[2:], plain[2:])
    assert torch.equal(unet(z, 500, text).sample, plain)
    order = torch.arange(48).repeat(4, 1)
    for row, (a, b) in enumerate(tokens.tolist(), 2):
        order[row, a], order[row, b] = b, a
    other = copy.deepcopy(unet)
    for module in other.modules():
        if hasattr(module, "to_k") and module.is_cross_attention:
            keys, values = module.to_k, module.to_v
            module.to_k = Fixed(keys(text.gather(1, order[..., None].expand_as(text))))
            module.to_v = Fixed(values(text))
    assert torch.allclose(other(z, 500, text).sample, found, atol=1e-5)
    with attention_kept(unet, tokens) as maps:
        unet(z, 500, text)
    assert {tuple(kept.shape) for kept in maps} == {(2, 2, 256)}
    assert all(isinstance(p, AttnProcessor2_0) for p in unet.attn_processors.values())


class Fixed(torch.nn.Module):
    """Says the same whatever it is given."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.value


def test_nouns_of_several_tokens_are_left_out() -> None:
    asked = questions("two things", 12)
    tokenizer = CLIPTokenizer.from_pretrained(str(files("perfusion_registry.storybook2") / "tokenizer"))
    for question, row in zip(asked, nouns_of(tokenizer, asked).tolist(), strict=True):
        ids = tokenizer(question.prompt, padding="max_length", max_length=48).input_ids
        for (noun, _), position in zip(question.things, row, strict=True):
            own = tokenizer(noun, add_special_tokens=False).input_ids
            assert (position == -1) is (len(own) != 1)
            if position >= 0:
                assert ids[position] == own[0]


def test_a_question_with_another_noun_asks_for_the_same_of_it() -> None:
    question = next(q for q in questions("one thing", 12) if q.prompt.count("teapot") == 0)
    other = in_place_of(question, "teapot")
    ((start, end, slot, _),) = other.wording.spans
    ((noun, colour),) = question.things
    assert (other.prompt[start:end], slot) == ("teapot", 0)
    assert other.prompt.replace("teapot", noun) == question.prompt
    assert other.things == (("teapot", colour),)
