"""`--offload` and PERF_OFFLOAD, where what is asked for computes on the processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfusion_registry.base.offload_kinds import VARIABLE
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compose import PromptOptions, compose
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.job import PictureSource, RenderOverrides, load_job
from perfusion_registry.operations.render import RenderOptions, render
from perfusion_registry.operations.workspace import Workspace

CPU, SAID = ComputeOptions("cpu"), ComputeOptions(offload="model")
PROMPT = "a teddy in the snow"


def test_a_prompt_is_composed_on_the_processor_whatever_is_offloaded(project: Path) -> None:
    with Workspace.open(project) as workspace:
        assert compose(workspace, PromptOptions(prompt=PROMPT, compute=SAID)).prompt == PROMPT


def test_a_picture_of_the_processor_is_drawn_again_where_a_variable_offloads_others(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = RenderOverrides(seeds=(1,), steps=1, width=64, height=64)
    source = PromptOptions(prompt=PROMPT, compute=CPU)
    again = PictureSource(picture=Path("a.png"), compute=SAID)
    here = PromptOptions(prompt=PROMPT, compute=SAID)
    with Workspace.open(project) as workspace:
        render(workspace, RenderOptions(source=source, overrides=overrides, out=Path("a.png")))

        def refused(source: PromptOptions | PictureSource) -> str | None:
            with pytest.raises(PerfError, match="nothing to offload") as caught:
                load_job(workspace, source, RenderOverrides())
            return caught.value.where

        assert refused(again) == refused(here) == "--offload"
        monkeypatch.setenv(VARIABLE, "model")
        assert load_job(workspace, again, RenderOverrides()).loaded.base.offload is None
        assert refused(here) == VARIABLE


def test_a_device_by_name_wins_over_the_variable_and_not_over_the_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ComputeOptions("cpu", offload="model").offload == "model"
    monkeypatch.setenv(VARIABLE, "model")
    assert ComputeOptions("cpu", offload="model").offload is None
    assert ComputeOptions("cpu", offload="group").offload == "group"
    for gpu in ("auto", "cuda", "cuda:1"):
        assert ComputeOptions(gpu, offload="model").offload == "model"
