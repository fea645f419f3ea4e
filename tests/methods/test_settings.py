"""What may be set of a concept: how a value is read and refused."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.settings import Setting

COUNT = Setting("count", Annotated[int, Field(ge=1, le=4)], "2")
SHARE = Setting("share", Annotated[float, Field(ge=0, le=1)], ".5")
SIDE = Setting("side", Literal["near", "far"], "far")


@pytest.mark.parametrize(("text", "value"), [("3", 3), ("+1", 1)])
def test_a_whole_number_is_read_as_one(text: str, value: int) -> None:
    read = COUNT.read(text)
    assert (read, type(read)) == (value, int)


@pytest.mark.parametrize(("text", "value"), [("1", 1.0), (".25", 0.25), ("1e-1", 0.1), ("0.", 0.0)])
def test_a_number_is_read_as_people_write_it(text: str, value: float) -> None:
    read = SHARE.read(text)
    assert (read, type(read)) == (value, float)


@pytest.mark.parametrize(
    ("setting", "text"), [(COUNT, "5"), (COUNT, "1.5"), (SHARE, "-1"), (SHARE, "nan"), (SIDE, "left")]
)
def test_what_a_setting_cannot_be_is_refused_with_an_example(setting: Setting, text: str) -> None:
    with pytest.raises(PerfError) as caught:
        setting.read(text)
    assert setting.key in (caught.value.hint or "")
