"""Which step is kept: by pictures of each as the concept will be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from perfusion_registry.base import Base, Mask
from perfusion_registry.build.latents import encode_latents
from perfusion_registry.build.sampling import draw
from perfusion_registry.build.selection import select
from perfusion_registry.build.state import Snapshot
from perfusion_registry.build.training import TrainInputs
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.residuals.options import TrainOptions
from perfusion_registry.methods.table import find_method

OPTIONS = TrainOptions(
    rank=0.2,
    token="sks",
    templates=("a photo of a {}",),
    validation_prompts=("a photo of a {}", "a {} in the snow"),
    validation_steps=2,
)


@dataclass
class Shown:
    """A scorer that keeps what it is shown."""

    pictures: list[Tensor] = field(default_factory=list)

    def image_features(self, pictures: Tensor) -> Tensor:
        self.pictures.append(pictures.cpu())
        return torch.ones(len(pictures), 2)

    def text_features(self, texts: list[str]) -> Tensor:
        return torch.ones(len(texts), 2)


@contextmanager
def in_the_weights(base: Base, state: dict[str, Tensor]) -> Iterator[None]:
    """W + B A in the place of each output projection's W."""
    before = {}
    for name, down in state.items():
        path = name.removeprefix("residual_down.")
        if path != name:
            weight = base.denoiser.get_submodule(f"{path}.proj_out").weight
            before[path] = weight, weight.detach().clone()
            weight.data += (state[f"residual_up.{path}"] @ down).reshape(weight.shape)
    try:
        yield
    finally:
        for weight, own in before.values():
            weight.data = own


def test_each_step_is_drawn_where_the_recipe_says(tiny_base: Base) -> None:
    """Everywhere, each state by itself is what a denoiser with its weights draws; and each mask has pictures
    of its own."""
    method = find_method("residuals")
    call = method.call(OPTIONS, "teddy")
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = encode_latents(tiny_base, pixels, torch.ones(1, 1, 64, 64), flip=False)
    prompts = Prompts.of(tiny_base, OPTIONS.templates, "teddy", call=call)
    dice, snapshots = torch.Generator().manual_seed(1), []
    inputs = TrainInputs(tiny_base, "teddy", None, prompts, latents, OPTIONS, method.trainable, call=call)
    concept = inputs.begin().concept
    for step in (1, 2):
        state = {name: 0.3 * torch.randn(one.shape, generator=dice) for name, one in concept.state.items()}
        snapshots.append(Snapshot(step, state))

    def shown(mask: Mask) -> list[Tensor]:
        scorer = Shown()
        asked = replace(inputs, base=replace(tiny_base, scorer=scorer))
        select(asked, concept, snapshots, pixels, mask=mask)
        return [*torch.cat(scorer.pictures[:-1]).split(2)]

    everywhere = shown("off")
    own = Prompts.of(tiny_base, OPTIONS.validation_prompts, "teddy", call=call)
    noise = torch.randn(2, *latents.mean.shape[1:], generator=torch.Generator().manual_seed(OPTIONS.seed))
    for snapshot, pictures in zip(snapshots, everywhere[1:], strict=True):
        with torch.no_grad(), tiny_base.attached(), in_the_weights(tiny_base, dict(snapshot.tensors)):
            wanted, empty = concept.conditioned(snapshot.tensors, own)
            unwanted = tiny_base.without_negative(empty).repeated(2)
            by_hand = draw(tiny_base, wanted, unwanted, noise, steps=2, guidance=OPTIONS.validation_guidance)
        assert torch.allclose(pictures, by_hand, atol=1e-4)
    others = [everywhere, shown("median"), shown("ramp")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert torch.allclose(others[one][0], others[other][0], atol=1e-5)  # the plain word
        for step in (1, 2):
            assert not torch.allclose(others[one][step], others[other][step], atol=1e-3)
