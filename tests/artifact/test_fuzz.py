"""A few of the cases of `benchmarks/fuzz.py`, the same in every run, and what they once found."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest

from benchmarks.fuzz import flips, fuzz, readers
from perfusion_registry.artifact import Store, save_artifact
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.document import parse_toml
from perfusion_registry.recipe.lockfile_text import dump_lockfile, parse_lockfile
from tests.artifact.samples import artifact
from tests.recipe.test_lockfile import lock


@pytest.mark.parametrize("name", readers())
def test_mutated_files_are_refused_in_words(name: str) -> None:
    reader, seeds = readers()[name]
    outcome = fuzz(reader, seeds, 150, Random(name))
    assert not outcome.escaped
    assert outcome.refused > 0
    assert outcome.slowest < 2


def test_every_changed_byte_of_an_artifact_is_noticed(tmp_path: Path) -> None:
    changes, missed, broke = flips(save_artifact(artifact()), Store(tmp_path))
    assert changes > 1000
    assert (missed, broke) == (0, 0)


def test_a_number_of_too_many_digits_is_a_mistake_of_syntax() -> None:
    with pytest.raises(PerfError, match="too many digits"):
        parse_toml("x = " + "9" * 5000, "fuzz", "manifest")


def test_a_long_file_full_of_mistakes_is_told_soon() -> None:
    text = dump_lockfile(lock(*(f"bear-{number}" for number in range(140))))
    begun = time.process_time()
    with pytest.raises(PerfError, match=r"mistakes") as caught:
        parse_lockfile(text.replace("sha256 =", "sha265 ="), "fuzz")
    assert time.process_time() - begun < 5
    assert "more" in caught.value.what
    assert "line " in caught.value.what
    assert len(caught.value.what) < 10_000
