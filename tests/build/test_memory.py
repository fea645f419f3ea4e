"""What `benchmarks/memory` computes without numbers is what a real step of training allocates."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.memory import SHAPES, Way, _bytes, computed
from benchmarks.without_numbers import Shape
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.base.upcasting import is_large, upcast_of
from perfusion_registry.build.latents import Latents
from perfusion_registry.build.training import TrainInputs, repeatable, training_step
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.methods.perfusion.training import PerfusionTrainable
from perfusion_registry.methods.prompts import Prompts
from tests.tiny import deeper_unet, save_tiny_base


def measured(base: Base, way: Way) -> int:
    """Bytes that the second step allocates at most beside the weights, as PyTorch's profiler has them of its
    allocator; with what is learned, and Adam's averages of it."""
    shape, metric = (10, 4, 8, 8), CovarianceMetric(torch.eye(base.bank.width, dtype=torch.float64))
    latents = Latents(
        torch.rand(shape), torch.rand(shape), torch.ones(10, 1, 8, 8), torch.full((10, 6), 64.0)
    )
    prompts = Prompts.of(base, way.options.templates, "teddy")
    inputs = TrainInputs(base, "teddy", metric, prompts, latents, way.options, PerfusionTrainable.begin)
    state = inputs.begin()
    unet = base.pipe.unet
    if way.checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()
    state.concept.prepare(prompts)
    residual = state.concept.factors(state.concept.parameters)
    try:
        with repeatable(base.device), base.attached([residual] if residual else [], everywhere=True):
            training_step(inputs, state)
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
                training_step(inputs, state)
    finally:
        unet.disable_gradient_checkpointing()
        unet.eval()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    kept = 3 * sum(one.numel() * one.element_size() for one in state.concept.parameters.values())
    return peak + kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base of more blocks: what no checkpoint is kept of counts too much in two."""
    return save_tiny_base(tmp_path_factory.mktemp("deeper") / "base", make_unet=deeper_unet)


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(describe_base(str(folder)), "cpu", "float32", "float32")


@pytest.mark.parametrize(
    "way",
    [
        Way(prompts=2),
        Way(prompts=2, checkpointing=True),
        Way(prompts=2, frozen=True),
        Way(prompts=2, residual=0.2),
    ],
)
def test_a_step_needs_what_was_computed(base: Base, folder: Path, way: Way) -> None:
    found = computed(Shape.of(folder), torch.float32, way)
    assert found.step == pytest.approx(measured(base, way), rel=0.03)


def test_weights_are_those_of_the_files(tiny_base: Base, tiny_base_folder: Path) -> None:
    modules = [part for part in tiny_base.pipe.components.values() if isinstance(part, torch.nn.Module)]
    tensors = [tensor for part in modules for tensor in (*part.parameters(), *part.buffers())]
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*tensors, tiny_base.bank.W))
    found = computed(Shape.of(tiny_base_folder), torch.float32, Way(batch=1))
    assert found.weights == pytest.approx(size, rel=0.01)


def test_a_large_text_encoder_has_what_upcasting_leaves_of_it() -> None:
    with torch.device("meta"):
        base = Shape.of(SHAPES["SDXL"]).made(torch.bfloat16)
    parts = base.pipe.components
    for name, ours in zip(("text_encoder", "text_encoder_2"), base.text_models.values(), strict=True):
        loaded = upcast_of(parts[name]) if is_large(parts[name]) else copy.deepcopy(parts[name]).float()
        assert _bytes([parts[name], ours]) == _bytes([parts[name], loaded])
        assert [one.dtype for one in ours.parameters()] == [one.dtype for one in loaded.parameters()]
