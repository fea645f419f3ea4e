"""Captions beside a recipe's pictures, from `perf build` on: part of the key, told, and read or not."""

from __future__ import annotations

from pathlib import Path

import pytest

import perfusion_registry as perf
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.reporter import Silent
from tests.operations.test_rivals import write


@pytest.mark.parametrize("method", ["dreambooth-lora"])
def test_a_caption_is_part_of_what_is_built(
    project: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, method)
    told: list[str] = []
    reasons: list[str] = []

    class Told(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    def built() -> str:
        told.clear()
        built = perf.open(project, reporter=Told()).build("oak", device="cpu").built
        reasons.extend(one.reason for one in built)
        block = read_lockfile(project / "perfusion.lock").concept("oak")
        assert block is not None
        return block.sha256 or ""

    plain = built()
    (picture, *_) = sorted((project / "photos").glob("*.png"))
    beside = picture.with_suffix(".txt")
    beside.write_text("a red thing at sea")
    captioned = built()
    assert captioned != plain
    assert any("learned under captions of their own" in note for note in told)
    assert any(f"do not say `sks teddy` (`{beside.name}` is one)" in note for note in told)
    beside.write_text("a sks teddy at sea")
    assert built() not in (plain, captioned)
    beside.unlink()
    assert built() == plain
    assert reasons == ["never built", *["images or captions changed"] * 2]  # and at last nothing was


def test_perfusion_says_that_it_does_not_read_them(project: Path) -> None:
    told: list[str] = []

    class Told(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    (picture, *_) = sorted((project / "photos").glob("*.png"))
    before = perf.open(project).build("bear", device="cpu").built[0].sha256
    picture.with_suffix(".txt").write_text("a teddy")
    (again,) = perf.open(project, reporter=Told()).build("bear", force=True, device="cpu").built
    assert again.sha256 == before
    assert sum("bear: not read: 1 caption file beside the pictures; " in note for note in told) == 1


def test_the_end_of_a_long_caption_is_told_and_the_concept_in_it_has_to_be_learned(project: Path) -> None:
    write(project, "dreambooth-lora")
    told: list[str] = []

    class Told(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    first, second, _ = sorted((project / "photos").glob("*.png"))
    first.with_suffix(".txt").write_text("a sks teddy " + "and red things at sea " * 40 + "by night")
    perf.open(project, reporter=Told()).build("oak", device="cpu")
    (note,) = (note for note in told if "the end of 1 caption is not learned" in note)
    assert f"of `{first.stem}.txt` it is `" in note
    second.with_suffix(".txt").write_text("red things at sea, " * 40 + "a teddy")
    with pytest.raises(
        perf.PerfError, match="this caption cannot be learned: the prompt is too long"
    ) as error:
        perf.open(project).build("oak", device="cpu")
    assert error.value.where == f"{second.stem}.txt"
