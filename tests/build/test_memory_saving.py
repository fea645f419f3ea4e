"""Training where memory is short: text encoders that go, layers that are computed again, batches in parts."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from perfusion_registry.base import Base, wrap
from perfusion_registry.build import Covariance
from perfusion_registry.build.memory_saving import MemorySaving
from perfusion_registry.build.state import TrainState
from perfusion_registry.build.training import train
from perfusion_registry.methods.perfusion.options import LOW_MEMORY, PerfusionRecipe, TrainOptions
from perfusion_registry.methods.table import resolve_train
from tests.build.test_training import covariance as covariance
from tests.build.test_training import inputs_of
from tests.cuda_stand_in import OnCuda, cuda_stand_in

FAST = TrainOptions(
    steps=3, batch=4, validate_every=3, learning_rate_output=0.5, learning_rate_embedding=0.05,
    residual_rank=0.1, templates=("a photo of a {}", "a {} in the snow"),
)  # fmt: skip
LOW = FAST.model_copy(update=LOW_MEMORY)


class Notes:
    """Keeps what a reporter is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def stage(self, *_: Any) -> Iterator[Any]:
        yield self

    def advance(self, *_: Any, **__: Any) -> None:
        pass


@contextmanager
def short(base: Base, fits: Callable[[Any, int], bool]) -> Iterator[None]:
    """A denoiser that runs out of memory unless a batch of so many samples fits."""

    def before(unet: Any, inputs: Any) -> None:
        if not fits(unet, len(inputs[0])):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = base.denoiser.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


def learned(base: Base, covariance: Covariance, options: TrainOptions, **more: Any) -> TrainState:
    return train(inputs_of(base, covariance, options), **more)


def test_layers_computed_again_learn_the_very_same(tiny_base: Base, covariance: Covariance) -> None:
    notes = Notes()
    with short(tiny_base, lambda unet, count: unet.is_gradient_checkpointing):
        again = learned(tiny_base, covariance, FAST, title="teddy", reporter=notes)
    assert notes.notes == [
        "teddy: memory is short, so layers are computed again on the way back, which takes longer"
    ]
    assert not tiny_base.pipe.unet.is_gradient_checkpointing
    plain = learned(tiny_base, covariance, FAST)
    assert again.losses == plain.losses
    for name, tensor in plain.concept.state.items():
        assert torch.equal(again.concept.state[name], tensor), name


@pytest.mark.parametrize("most", [3, 1])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    tiny_base: Base, covariance: Covariance, most: int
) -> None:
    options, notes = FAST.model_copy(update={"steps": 1, "validate_every": 1}), Notes()
    with short(tiny_base, lambda unet, count: count <= most):
        parts = learned(tiny_base, covariance, options, reporter=notes)
    assert len(notes.notes) == (2 if most == 3 else 3)
    whole = learned(tiny_base, covariance, options)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)
    for name, parameter in whole.concept.parameters.items():
        assert parameter.grad is not None
        ours = parts.concept.parameters[name].grad
        assert torch.allclose(ours, parameter.grad, rtol=1e-3, atol=2e-3), name  # type: ignore[arg-type]
    assert torch.equal(parts.concept.state["target_input"], whole.concept.state["target_input"])


def test_what_a_failed_step_computed_is_gone_before_memory_is_given_back(
    tiny_base: Base, covariance: Covariance, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    own = MemorySaving.tighten

    def tighten(saving: MemorySaving) -> None:
        alive.extend(one() is not None for one in computed)
        own(saving)

    def fits(unet: Any, count: int) -> bool:
        activations = torch.zeros(10)
        computed.append(weakref.ref(activations))
        if not unet.is_gradient_checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return True

    monkeypatch.setattr(MemorySaving, "tighten", tighten)
    with short(tiny_base, fits):
        learned(tiny_base, covariance, FAST)
    assert alive == [False]


def test_what_never_fits_is_told(tiny_base: Base, covariance: Covariance) -> None:
    with short(tiny_base, lambda unet, count: False), pytest.raises(torch.OutOfMemoryError):
        learned(tiny_base, covariance, FAST)
    assert not tiny_base.pipe.unet.is_gradient_checkpointing


def test_without_a_learned_embedding_every_prompt_is_encoded_once(
    tiny_base: Base, covariance: Covariance
) -> None:
    asked: list[int] = []
    encoder: Any = tiny_base.text_models["text_encoder"]
    handle = encoder.register_forward_hook(lambda module, inputs, output: asked.append(len(output[0])))
    inputs = inputs_of(tiny_base, covariance, LOW)
    state = inputs.begin()
    asked.clear()
    try:
        done = train(inputs)
    finally:
        handle.remove()
    assert asked[-1] == len(LOW.templates)
    assert len(asked) <= 2  # where the lock begins, and all prompts
    nearly = train(
        inputs_of(tiny_base, covariance, LOW.model_copy(update={"learning_rate_embedding": 1e-30}))
    )
    for name, tensor in nearly.concept.state.items():
        assert torch.allclose(done.concept.state[name], tensor, atol=1e-6), name
    assert torch.equal(done.concept.state["embedding"], state.concept.state["embedding"])
    assert done.concept.state.keys() == nearly.concept.state.keys()


@pytest.mark.slow
def test_the_text_encoders_leave_the_gpu_while_values_are_learned(
    tiny_base: Base, covariance: Covariance
) -> None:
    there: list[bool] = []
    with cuda_stand_in():
        pipe: Any = tiny_base.pipe
        base = wrap(type(pipe)(**pipe.components, requires_safety_checker=False).to("cuda"))
        encoder: Any = base.text_models["text_encoder"]
        own = copy.deepcopy(encoder)  # as that of a pipeline in bf16 is another than the one in fp32
        base.pipe.register_modules(text_encoder=own)

        def look(*_: Any) -> None:
            weights = [*encoder.parameters(), *own.parameters()]
            on_the_gpu = {isinstance(weight, OnCuda) for weight in weights}
            there.append(on_the_gpu != {False})

        handle = base.denoiser.register_forward_pre_hook(look)
        for options in (LOW, FAST):
            learned(base, covariance, options)
        handle.remove()
        assert isinstance(next(encoder.parameters()), OnCuda)
        base.pipe.to("cpu")
        encoder.to("cpu")
    assert there == [False] * 3 + [True] * 3


def test_the_preset_of_a_recipe_fills_in_what_it_leaves_out() -> None:
    concept = {"name": "teddy", "version": "1.0.0", "supercategory": "teddy", "images": ("*.png",)}

    def resolved(**train: Any) -> TrainOptions:
        recipe = PerfusionRecipe.model_validate({"concept": concept, "train": train})
        return TrainOptions.of(resolve_train(recipe, {"residual_rank": 0.05}))

    low, own = resolved(preset="low-memory"), resolved(preset="low-memory", residual_rank=0.1)
    assert (low.learning_rate_embedding, low.residual_rank) == (0, 0)
    assert (own.learning_rate_embedding, own.residual_rank) == (0, 0.1)
    assert low == resolved(learning_rate_embedding=0.0, residual_rank=0.0)  # in keys and on cards
