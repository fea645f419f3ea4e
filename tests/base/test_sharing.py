"""One loaded base serves several threads, and somebody's live pipeline is a base too."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from torch import Tensor

from perfusion_registry.base import Base, wrap
from perfusion_registry.errors import PerfError

WORDS = ("teddy", "teapot", "cat", "boat")


def answer(base: Base, word: str) -> Tensor:
    """What the denoiser says to one prompt, packed with a shift that is the word's own."""
    shift = WORDS.index(word) + 1.0
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    encoded = base.encode([base.tokenise([f"a photo of a {word}"])])
    with torch.no_grad(), base.attached():
        packed = encoded.with_states(encoded.states @ base.bank.W.T + shift)
        return base.denoise(x, torch.tensor(300), packed)


def test_threads_take_turns_and_none_sees_anothers_composition(tiny_base: Base) -> None:
    alone = {word: answer(tiny_base, word) for word in WORDS}
    start = Barrier(len(WORDS))

    def work(word: str) -> list[Tensor]:
        start.wait()
        return [answer(tiny_base, word) for _ in range(3)]

    with ThreadPoolExecutor(len(WORDS)) as threads:
        for word, answers in zip(WORDS, threads.map(work, WORDS), strict=True):
            assert all(torch.allclose(one, alone[word], atol=1e-5) for one in answers)
    assert not torch.allclose(alone["teddy"], alone["cat"], atol=1e-2)


def test_nesting_in_one_thread_is_an_error_and_an_error_gives_the_turn_back(tiny_base: Base) -> None:
    again = (tiny_base.attached, tiny_base.exclusive, lambda: wrap(tiny_base.pipe).exclusive())
    for outer in (tiny_base.attached, tiny_base.exclusive):
        for inner in again:
            with outer(), pytest.raises(PerfError, match="in use already, further up"), inner():
                pass
        with pytest.raises(KeyError), outer():
            raise KeyError
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(answer, tiny_base, "cat").result().shape == (1, 4, 8, 8)


def test_a_live_pipeline_is_the_base_that_it_was_loaded_from(tiny_base: Base) -> None:
    wrapped = wrap(tiny_base.pipe)
    assert wrapped.description.family == tiny_base.description.family
    assert wrapped.description.digest == "unknown"
    assert torch.equal(wrapped.bank.W, tiny_base.bank.W)
    assert torch.equal(answer(wrapped, "teddy"), answer(tiny_base, "teddy"))
    half = copy.copy(tiny_base.pipe)
    half.text_encoder = copy.deepcopy(half.text_encoder).half()
    again = wrap(half)
    assert again.description.family == tiny_base.description.family
    assert again.encode([again.tokenise(["a cat"])]).states.dtype == torch.float32
    assert half.text_encoder.dtype == torch.float16


def test_another_pipeline_of_the_family_takes_what_a_prompt_was_packed_to(tiny_base: Base) -> None:
    """The picture that img2img draws with the projections edited is the one that it draws from packed."""
    pipe = StableDiffusionImg2ImgPipeline(**tiny_base.pipe.components, requires_safety_checker=False)
    base, photo = wrap(pipe), np.random.default_rng(0).random((1, 64, 64, 3), dtype=np.float32)
    branches = [base.encode([base.tokenise([text])]) for text in ("a teddy in the snow", "a hat")]

    def draw(**inputs: object) -> np.ndarray:
        dice = torch.Generator().manual_seed(3)
        return pipe(image=photo, num_inference_steps=4, generator=dice, output_type="np", **inputs).images

    plain = draw(prompt="a teddy in the snow", negative_prompt="a hat")
    packed = [branch.with_states(branch.states @ base.bank.W.T) for branch in branches]
    with base.attached():
        assert np.abs(draw(**base.inputs(*packed)) - plain).max() < 1e-4
    assert np.array_equal(draw(prompt="a teddy in the snow", negative_prompt="a hat"), plain)


@pytest.mark.parametrize("kind", ["text", "image", "inpaint"])
def test_a_fresh_pipeline_leaves_the_bases_own_alone(tiny_base: Base, kind: str) -> None:
    scheduler, progress = tiny_base.pipe.scheduler, dict(getattr(tiny_base.pipe, "_progress_bar_config", {}))
    pipe = tiny_base.pipeline(kind, scheduler="EulerDiscreteScheduler")
    assert type(pipe).__name__ in tiny_base.pipelines[kind]
    assert type(pipe.scheduler).__name__ == "EulerDiscreteScheduler"
    assert pipe.scheduler.config.beta_end == scheduler.config.beta_end
    assert pipe.unet is tiny_base.pipe.unet
    assert tiny_base.pipe.scheduler is scheduler
    assert dict(getattr(tiny_base.pipe, "_progress_bar_config", {})) == progress
    assert pipe.scheduler is not tiny_base.pipeline(kind, scheduler="EulerDiscreteScheduler").scheduler


def test_a_scheduler_that_there_is_not_is_told_with_those_that_there_are(tiny_base: Base) -> None:
    assert {"DDIMScheduler", "EulerAncestralDiscreteScheduler", "UniPCMultistepScheduler"} <= {
        *tiny_base.schedulers
    }
    with pytest.raises(
        PerfError, match="PNDMScheduler, has no form as FlowMatchEulerDiscreteScheduler"
    ) as caught:
        tiny_base.pipeline(scheduler="FlowMatchEulerDiscreteScheduler")
    assert "DDIMScheduler" in str(caught.value.hint)


def test_pipelines_that_cannot_carry_concepts_are_told(tiny_base: Base) -> None:
    parts = tiny_base.pipe.components
    for changed, why in (
        ({"controlnet": torch.nn.Identity()}, "no text cross-attention"),
        ({"text_encoder_2": tiny_base.pipe.text_encoder}, "a SimpleNamespace cannot carry concepts"),
        ({"text_encoder": copy.deepcopy(tiny_base.pipe.text_encoder).bfloat16()}, "lost too many digits"),
    ):
        live = {**parts, **changed}
        with pytest.raises(PerfError, match=why):
            wrap(SimpleNamespace(components=live, config={}, **live))
    with pytest.raises(PerfError, match="a Linear cannot carry concepts"):
        wrap(torch.nn.Linear(2, 2))
