"""The shipped recogniser: right about new pages, and refused where its labels are not the world's."""

from __future__ import annotations

import json
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file

from perfusion_registry.base import describe_base
from perfusion_registry.base.embedded import embedded_folder
from perfusion_registry.errors import PerfError
from perfusion_registry.storybook.recogniser import LOOKS, Recogniser, layout
from perfusion_registry.storybook.training.truth import Truth
from perfusion_registry.storybook.world import Page, draw_page, paint

SHIPPED = embedded_folder() / "recogniser.safetensors"


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser.load(SHIPPED)


def test_it_is_right_about_pages_that_are_drawn_now(recogniser) -> None:
    rng = Random("fresh pages of the test")
    pages = [Page.sample(rng) for _ in range(96)]
    truth = Truth.of(pages)
    found = recogniser.recognise(paint([draw_page(page) for page in pages], size=128).images)
    present = (found.present > 0.5).float()
    answers = truth.traits["look"]
    shown = answers >= 0
    assert float(present[shown].mean()) > 0.93
    assert float(present[~shown].mean()) < 0.02
    assert float((found.place.argmax(1) == truth.place).float().mean()) > 0.93
    looks = found.look.argmax(-1)
    alone = shown & (shown.sum(1, keepdim=True) == 1)
    assert float((looks[alone] == answers[alone]).float().mean()) > 0.8


def test_its_weights_are_half_precision_and_no_part_of_the_base() -> None:
    kinds = {value.dtype for value in load_file(SHIPPED).values() if value.is_floating_point()}
    assert kinds == {torch.float16}
    assert SHIPPED.name not in {file.path for file in describe_base("storybook").files}


def test_what_is_saved_says_its_layout_and_loads(recogniser, tmp_path) -> None:
    path = tmp_path / "again.safetensors"
    recogniser.save(path)
    again = Recogniser.load(path)
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.recognise(picture).present, recogniser.recognise(picture).present)


@pytest.mark.parametrize("change", ["another label", "no layout", "other shapes", "garbage"])
def test_an_incompatible_file_is_a_clear_error(recogniser, tmp_path, change) -> None:
    path = tmp_path / "other.safetensors"
    state = {name: value.contiguous() for name, value in recogniser.state_dict().items()}
    said = layout()
    if change == "another label":
        said["outputs"]["traits"]["look"] = [*LOOKS[1:], LOOKS[0]]
    if change == "other shapes":
        state["whole.weight"] = state["whole.weight"][:-1].contiguous()
    save_file(state, path, None if change == "no layout" else {"recogniser": json.dumps(said)})
    if change == "garbage":
        path.write_bytes(b"not safetensors")
    wanted = {"other shapes": "other shapes", "garbage": "cannot be read"}.get(change, "another world")
    with pytest.raises(PerfError, match=wanted):
        Recogniser.load(path)
