"""Pictures of the tiny base: its weights are random, but every path of the pipeline is real."""

import copy

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from perfusion_registry.base import marked
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.focusing import residuals
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.settings import Axis
from perfusion_registry.render.draw import native_values, render
from perfusion_registry.render.grid import Axes, sweep
from perfusion_registry.render.request import RenderRequest, resolve_request
from tests.compose.samples import on

SCHEDULERS = {
    "ddim": DDIMScheduler,
    "dpmsolver": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
}


def request(**values):
    return RenderRequest.model_validate(
        {"width": 64, "height": 64, "steps": 2, "guidance": 3.0, "negative_prompt": "blue hat"} | values
    )


def pixels(rendered):
    return np.asarray(rendered.image)


def drawn(base, prompt, concepts, **values):
    composition = compose(parse_prompt(prompt), concepts, base)
    return list(render(base, composition, request(**values), on(concepts)))


def stock(pipe, scheduler="ddim", *, steps=2, **inputs):
    """What the pipeline alone draws with a scheduler built from its own configuration."""
    pipe = copy.copy(pipe)
    pipe.scheduler = SCHEDULERS[scheduler].from_config(pipe.scheduler.config)
    generator = [torch.Generator("cpu").manual_seed(5)]
    result = pipe(
        num_inference_steps=steps, guidance_scale=3.0, width=64, height=64, generator=generator, **inputs
    )
    return np.asarray(result.images[0])


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_prompt_without_concepts_is_the_untouched_pipeline(tiny_base, concepts, scheduler):
    (rendered,) = drawn(
        tiny_base, "a red hat in the snow", concepts, seeds=(5,), steps=4, scheduler=scheduler
    )
    inputs = {"prompt": ["a red hat in the snow"], "negative_prompt": ["blue hat"]}
    for name in SCHEDULERS:
        same = np.array_equal(pixels(rendered), stock(tiny_base.pipe, name, steps=4, **inputs))
        assert same is (name == scheduler), name


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_concept_is_drawn_as_with_every_projection_edited_by_hand(tiny_base, concepts, scheduler):
    """The stock pipeline, each to_k and to_v replaced by a layer that emits its packed columns."""
    composition = compose(parse_prompt("a teddy* in a teapot*"), concepts, tiny_base)
    wanted = request(seeds=(5,), steps=4, scheduler=scheduler)
    (rendered,) = render(tiny_base, composition, wanted, on(concepts))
    packed = pack(tiny_base, composition, on(concepts), [composition.parsed, parse_prompt("blue hat")]).states

    class Emits(torch.nn.Module):
        def __init__(self, columns):
            super().__init__()
            self.columns = columns

        def forward(self, encodings):
            return packed[[1, 0]][..., self.columns]  # guidance runs the negative prompt first

    base = copy.deepcopy(tiny_base.pipe.unet)
    modules = dict(base.named_modules())
    for layer in tiny_base.bank.layers:
        modules[layer.path].to_k = Emits(layer.key_slice)
        modules[layer.path].to_v = Emits(layer.value_slice)
    pipe = copy.copy(tiny_base.pipe)
    pipe.unet = base
    difference = np.abs(
        stock(pipe, scheduler, steps=4, prompt=["x"]).astype(int) - pixels(rendered).astype(int)
    )
    assert difference.max() <= 1


def test_concepts_change_the_picture_and_nothing_else(tiny_base, concepts):
    before = drawn(tiny_base, "a teddy in the snow", concepts)[0]
    weights = {key: value.clone() for key, value in tiny_base.pipe.unet.state_dict().items()}
    modules = [id(module) for module in tiny_base.pipe.unet.modules()]
    scheduler = tiny_base.pipe.scheduler
    changed = drawn(tiny_base, "a teddy* in the snow", concepts)[0]
    after = drawn(tiny_base, "a teddy in the snow", concepts)[0]
    assert not np.array_equal(pixels(changed), pixels(before))
    assert np.array_equal(pixels(after), pixels(before))
    assert [id(module) for module in tiny_base.pipe.unet.modules()] == modules
    assert tiny_base.pipe.scheduler is scheduler
    assert all(torch.equal(v, weights[k]) for k, v in tiny_base.pipe.unet.state_dict().items())


@pytest.mark.parametrize("prompt", ["a teddy* in the snow", "a teddy in the snow"])
def test_a_picture_does_not_depend_on_its_batch(tiny_base, concepts, prompt):
    alone = {r.seed: pixels(r) for s in (3, 4, 5) for r in drawn(tiny_base, prompt, concepts, seeds=(s,))}
    for batch in (2, 3):
        for rendered in drawn(tiny_base, prompt, concepts, seeds=(5, 3, 4), batch=batch):
            difference = np.abs(pixels(rendered).astype(int) - alone[rendered.seed].astype(int))
            assert difference.max() <= 1
    assert not np.array_equal(alone[3], alone[4])


def test_a_record_draws_the_same_pixels(tiny_base, concepts):
    for rendered in drawn(tiny_base, "a teddy* in the snow", concepts, seeds=(5, 3, 4), batch=2):
        again = list(render(tiny_base, rendered.record.composition, rendered.record.request, on(concepts)))
        assert np.array_equal(pixels(again[rendered.record.index]), pixels(rendered))


def test_pictures_arrive_one_by_one(tiny_base, concepts):
    """Between pictures the pipeline is as it was, so that whoever takes them may use it."""
    composition = compose(parse_prompt("a teddy*"), concepts, tiny_base)
    kinds = {type(m.to_k) for n, m in tiny_base.pipe.unet.named_modules() if n.endswith("attn2")}
    drawing = render(tiny_base, composition, request(seeds=(1, 2)), on(concepts))
    next(drawing)
    assert {type(m.to_k) for n, m in tiny_base.pipe.unet.named_modules() if n.endswith("attn2")} == kinds
    drawing.close()


def test_guidance_of_one_needs_no_negative_branch(tiny_base, concepts):
    one, other = (
        drawn(tiny_base, "a teddy*", concepts, guidance=1.0, negative_prompt=text)[0] for text in ("", "blue")
    )
    assert np.array_equal(pixels(one), pixels(other))


def test_sizes_other_than_the_native(tiny_base, concepts):
    (rendered,) = drawn(tiny_base, "a teddy*", concepts, width=96, height=64)
    assert rendered.image.size == (96, 64)


def test_every_step_is_reported(tiny_base, concepts):
    class Counting:
        total, done = None, 0

        def stage(self, title, total=None, then=0.0):
            self.total = total
            return self

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def advance(self, steps=1, note=""):
            self.done += steps

    reporter = Counting()
    composition = compose(parse_prompt("a teddy*"), concepts, tiny_base)
    list(render(tiny_base, composition, request(seeds=(1, 2, 3), batch=2), on(concepts), reporter=reporter))
    assert (reporter.done, reporter.total) == (4, 4)


def test_a_composition_of_another_family_is_refused(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy*"), concepts, tiny_base)
    other = composition.base.model_copy(update={"family": "another", "repo": "elsewhere/model"})
    foreign = composition.model_copy(update={"base": other})
    with pytest.raises(PerfError, match="elsewhere/model"):
        next(render(tiny_base, foreign, request(), on(concepts)))


def test_a_negative_prompt_calls_no_concept(tiny_base, concepts):
    with pytest.raises(PerfError, match="negative"):
        drawn(tiny_base, "a teddy*", concepts, negative_prompt="a teapot*")
    drawn(tiny_base, "a teddy*", concepts, negative_prompt=r"a teapot\*")


def test_more_steps_than_the_base_knows(tiny_base, concepts):
    tight = copy.copy(tiny_base.pipe)
    tight.scheduler = DDIMScheduler.from_config(tight.scheduler.config, num_train_timesteps=10)
    import dataclasses

    with pytest.raises(PerfError, match="10 steps"):
        drawn(dataclasses.replace(tiny_base, pipe=tight), "a hat", concepts, steps=11)


def test_a_sweep_varies_the_gates_it_is_told_to(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy* in a teapot*"), concepts, tiny_base)
    cells = list(
        sweep(
            tiny_base,
            composition,
            request(seeds=(5, 6), steps=1),
            on(concepts),
            Axes(Axis("bias", (0.2, 1.5)), Axis("temperature", (0.1, 0.2))),
            names=["teddy"],
        )
    )
    assert [(cell.across, cell.down) for cell in cells] == [
        (0.2, 0.1),
        (1.5, 0.1),
        (0.2, 0.2),
        (1.5, 0.2),
    ]
    for cell in cells:
        teddy, teapot = cell.rendered.record.composition.concepts
        assert (teddy.render.bias, teddy.render.temperature) == (cell.across, cell.down)
        assert (teapot.render.bias, teapot.render.temperature) == (0.65, 0.15)
        assert cell.rendered.seed == 5
    assert not np.array_equal(pixels(cells[0].rendered), pixels(cells[1].rendered))


def test_defaults_come_from_the_base_and_then_the_paper(tiny_base):
    card = tiny_base.description.card.render
    native = native_values(tiny_base)
    assert native == {"width": 64, "height": 64, "scheduler": "ddim"}
    from_card = resolve_request({}, card, native=native)
    assert (from_card.steps, from_card.guidance, from_card.scheduler) == (2, 2.0, "ddim")
    papers = resolve_request({"seeds": (1,), "steps": None}, {}, native={"width": 512, "height": 512})
    assert (papers.steps, papers.guidance, papers.width) == (50, 6.0, 512)
    assert resolve_request({"steps": 7}, card, native=native).steps == 7


@pytest.mark.parametrize(
    "given",
    [{"width": 63}, {"steps": 0}, {"guidance": -1.0}, {"seeds": ()}, {"seeds": (-1,)}, {"scheduler": "x"}],
)
def test_impossible_requests_are_refused(given):
    with pytest.raises(PerfError) as caught:
        resolve_request(given, {}, native={"width": 64, "height": 64})
    key = next(iter(given))
    assert caught.value.where == {"width": "--size", "seeds": "--seed"}.get(key, f"--{key}")


def test_a_residual_is_drawn_in_the_wanted_branch_and_where_its_concept_is(tiny_base, concepts):
    """The pipeline by hand: the bank and the residual attached, and one focus for the two branches."""
    composition = compose(parse_prompt("a hugsy* in the snow"), concepts, tiny_base)
    (rendered,) = render(tiny_base, composition, request(seeds=(5,)), on(concepts))
    packed = pack(tiny_base, composition, on(concepts), [composition.parsed, parse_prompt("blue hat")]).states
    where = torch.zeros(2, 77, 1)
    where[0, 2, 0] = 1
    factors = residuals(tiny_base, composition, on(concepts)).factors[0]
    with tiny_base.attached([factors]):
        both = marked(packed, where)
        expected = stock(tiny_base.pipe, prompt_embeds=both[:1], negative_prompt_embeds=both[1:])
    assert np.array_equal(pixels(rendered), expected)
    with tiny_base.attached():
        without = stock(tiny_base.pipe, prompt_embeds=packed[:1], negative_prompt_embeds=packed[1:])
    assert not np.array_equal(pixels(rendered), without)
    (none,) = drawn(tiny_base, "a hugsy*{residual=0} in the snow", concepts, seeds=(5,))
    assert np.array_equal(pixels(none), without)


def test_residuals_of_several_pictures_and_of_none_of_the_guidance(tiny_base, concepts):
    alone = [pixels(drawn(tiny_base, "a hugsy* and a teapot*", concepts, seeds=(s,))[0]) for s in (3, 4)]
    both = drawn(tiny_base, "a hugsy* and a teapot*", concepts, seeds=(3, 4), batch=2)
    for one, rendered in zip(alone, both, strict=True):
        assert np.abs(one.astype(int) - pixels(rendered).astype(int)).max() <= 1
    unguided = [
        pixels(drawn(tiny_base, f"a hugsy*{{residual={r}}}", concepts, seeds=(5,), guidance=1.0)[0])
        for r in (0, 1)
    ]
    assert not np.array_equal(*unguided)
