"""In which form edited prompts are drawn, by whom nothing else is said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from perfusion_registry.base import Base
from perfusion_registry.base.forms import form_of
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compute import ComputeOptions

GIB = 2**30
SIZES = {"SD 1.5": (24_960, 768), "SDXL": (166_400, 2048)}


def bank(size: str, device: str, *, plain: bool = True) -> Any:
    D, d = SIZES[size]
    return SimpleNamespace(device=torch.device(device), emitted_width=D, width=d, is_plain=plain)


@pytest.mark.parametrize(
    ("size", "device", "memory", "form"),
    [
        ("SDXL", "cpu", 4, "packed"),
        ("SD 1.5", "cuda", 4, "packed"),
        ("SDXL", "cuda", 8, "thin"),
        ("SDXL", "cuda", 24, "thin"),
        ("SDXL", "cuda", 80, "packed"),
        ("SDXL", "mps", None, "thin"),
        ("SD 1.5", "mps", None, "packed"),
        ("SDXL", "cuda", None, "thin"),
    ],
)
def test_packed_is_for_processors_and_for_banks_that_are_small(
    size: str, device: str, memory: int | None, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(device: torch.device) -> Any:
        if memory is None:
            raise RuntimeError("no driver")
        return SimpleNamespace(total_memory=memory * GIB)

    monkeypatch.delenv("PERF_FORM", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", told)
    assert form_of(bank(size, device)) == form
    assert form_of(bank(size, device, plain=False)) == "thin"


def test_the_environment_decides_where_it_says_something(
    tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERF_FORM", raising=False)
    assert tiny_base.form == "packed"
    for said, form in (("thin", "thin"), ("packed", "packed"), ("", "packed")):
        monkeypatch.setenv("PERF_FORM", said)
        assert tiny_base.form == form
    monkeypatch.setenv("PERF_FORM", "slim")
    with pytest.raises(PerfError, match="no form 'slim'") as caught:
        _ = tiny_base.form
    assert caught.value.where == "PERF_FORM"


def test_a_form_that_there_is_not_is_told_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERF_FORM", "slim")
    with pytest.raises(PerfError, match="no form 'slim'") as told:
        ComputeOptions()
    assert told.value.where == "PERF_FORM"
