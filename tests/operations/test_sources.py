"""What commands say before anything is read: what a drawing is of, what is added, what a build is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.add import AddOptions
from perfusion_registry.operations.add_release import AddReleaseOptions
from perfusion_registry.operations.build import check_learned
from perfusion_registry.operations.compose import Prompting, PromptOptions
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.control_options import read_controls, read_strengths
from perfusion_registry.operations.declare import read_addition
from perfusion_registry.operations.job import CompositionSource, PictureSource
from perfusion_registry.operations.prompt_list import PromptList
from perfusion_registry.operations.sources import read_source
from perfusion_registry.operations.transfer import check_alone
from perfusion_registry.shards import share

FILE = Path("a.file")
CPU = ComputeOptions("cpu")


def source(
    prompt: str | None = None, how: Prompting | None = None, piped: bytes | None = None, **files: Path | str
) -> Any:
    def stdin() -> bytes:
        assert piped is not None, "nobody asked for standard input"
        return piped

    named: dict[str, Any] = {"prompts": None, "composition": None, "picture": None, **files}
    return read_source(prompt, how or Prompting(), stdin=stdin, **named)


def test_a_drawing_is_of_one_thing() -> None:
    assert source("a hat", Prompting(scene="night", compute=CPU)) == PromptOptions(
        prompt="a hat", scene="night", compute=CPU
    )
    assert source(picture=FILE, how=Prompting(compute=CPU)) == PictureSource(picture=FILE, compute=CPU)
    assert source(composition=FILE) == CompositionSource(composition=FILE)
    with pytest.raises(PerfError, match="a prompt and --from cannot go together"):
        source(how=Prompting(scene="night"), picture=FILE)
    with pytest.raises(PerfError, match="there is no prompt"):
        source()


def test_a_scene_goes_with_a_list_of_prompts(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a hat\na pot\n")
    listed = source(how=Prompting(scene="night"), prompts=file)
    assert isinstance(listed, PromptList)
    assert ([line.text for line in listed.lines], listed.scene) == (["a hat", "a pot"], "night")


def test_a_shard_is_every_nth_prompt(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"a hat {number}\n" for number in range(5)))

    def shard(text: str) -> list[str]:
        listed = source(prompts=file, shard=text)
        lines = share(listed.lines, listed.shard)
        return [f"{line.place.rpartition(':')[2]} {line.text}" for line in lines]

    assert shard("2/2") == ["2 a hat 1", "4 a hat 3"]
    assert shard("9/9") == []
    assert sorted(shard("1/3") + shard("2/3") + shard("3/3")) == shard("1/1")
    for text, said in (
        ("3/2", "`3/2` is no shard"),
        ("0/2", "no shard"),
        ("2", "no shard"),
    ):
        with pytest.raises(PerfError, match=said):
            shard(text)
    with pytest.raises(PerfError, match="--shard takes a part of a list of prompts"):
        read_source(
            "a hat", Prompting(), prompts=None, composition=None, picture=None, shard="1/2", stdin=bytes
        )


@pytest.mark.parametrize("said", [{"prompt": "-"}, {"prompts": Path("-")}])
def test_prompts_come_from_standard_input(said: dict[str, Any]) -> None:
    listed = source(piped=b"a hat\n", **said)
    assert isinstance(listed, PromptList)
    assert (listed.name, listed.lines[0].place) == ("stdin", "stdin:1")


@pytest.mark.parametrize("piped", [b"{}", b"\xff\xfe", b""])
def test_what_is_no_composition_is_refused_in_a_sentence(piped: bytes) -> None:
    with pytest.raises(PerfError, match="not a composition that perf can read") as refused:
        source(composition=Path("-"), piped=piped)
    assert refused.value.where == "stdin"


@pytest.mark.parametrize("named", ["picture", "composition"])
def test_what_is_named_by_hashes_takes_no_other(named: str) -> None:
    with pytest.raises(PerfError, match="no file can stand in"):
        source(how=Prompting(files=(FILE,)), **{named: FILE})
    with pytest.raises(PerfError, match="names its base and its concepts by their hashes"):
        source(how=Prompting(base="storybook"), **{named: FILE})


def test_a_concept_is_of_a_registry_or_built_here() -> None:
    assert read_addition("teddy") == AddReleaseOptions(name="teddy")
    assert read_addition("studio/teddy", version=">=1") == AddReleaseOptions(
        name="studio/teddy", version=">=1"
    )
    assert read_addition("hat", supercategory="hat", copy=None, steps=None) == AddOptions(
        name="hat", supercategory="hat"
    )
    own = read_addition("hat", supercategory="hat", version="2.0.0", options=["seed=3"], flip=False)
    assert own == AddOptions(
        name="hat", supercategory="hat", version="2.0.0", options={"seed": 3}, flip=False
    )
    with pytest.raises(PerfError, match="needs its supercategory"):
        read_addition("hat", images=["hat/*"])


@pytest.mark.parametrize(
    "said", [{"flip": False}, {"seed": 0}, {"copy": True}, {"options": ["seed=3"]}, {"supercategory": "hat"}]
)
def test_what_is_of_a_registry_is_not_trained(said: dict[str, Any]) -> None:
    with pytest.raises(PerfError, match="comes from a registry, so images and training options have no use"):
        read_addition("studio/hat", **said)


def test_a_build_and_a_transfer_take_different_things() -> None:
    check_alone("sdxl", {"--super": None, "--force": False})
    with pytest.raises(PerfError, match="learns nothing") as refused:
        check_alone("sdxl", {"--super": None, "--force": True})
    assert refused.value.where == "--for sdxl, --force"
    check_learned(None, None)
    for files, covariance, where in (([FILE], None, "--with"), (None, FILE, "--covariance a.file")):
        with pytest.raises(PerfError, match="learns from the pictures of recipes") as refused:
            check_learned(files, covariance)
        assert refused.value.where == where


def test_controls_and_their_strengths_are_read() -> None:
    assert read_controls(["canny=a=b.png", "depth=d.png"]) == {
        "canny": Path("a=b.png"),
        "depth": Path("d.png"),
    }
    assert read_strengths([]) == (None, {})
    assert read_strengths([".5", "depth=.25"]) == (0.5, {"depth": 0.25})
    with pytest.raises(PerfError, match="'much' is no number") as refused:
        read_strengths(["depth=much"])
    assert refused.value.where == "--control-strength depth=much"
