"""Prompts from a file: read, composed and told of before the first is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.prompt_line import read_line
from perfusion_registry.operations.prompt_list import read_prompt_file, read_prompts
from perfusion_registry.render.metadata import read_metadata
from tests.render.test_cli import perf as perf

PROMPTS = """\ufeff# what to draw
a teddy* in the snow

  a teapot* at night  --seed 7,9 --negative "blue fog" --steps 1
a red hat --size 64x32
"""


def test_prompts_are_lines_that_say_something() -> None:
    data = PROMPTS.replace("\n", "\r\n").encode()
    lines = read_prompts(data, "p.txt")
    assert [line.place for line in lines] == ["p.txt:2", "p.txt:4", "p.txt:5"]
    assert lines[0].text == "a teddy* in the snow"
    for bad, what, where in (
        (b"# nothing\n\n", "no prompt here", "p.txt"),
        (b"a\nb\n\xff\n", "no text in UTF-8", "p.txt:3"),
    ):
        with pytest.raises(PerfError, match=what) as caught:
            read_prompts(bad, "p.txt")
        assert caught.value.where == where


def test_a_file_of_prompts_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(PerfError, match="cannot be read") as caught:
            read_prompt_file(path)
        assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("line", "prompt", "said"),
    [
        ("a hat", "a hat", {}),
        ("a hat -- in the snow", "a hat -- in the snow", {}),
        ("a hat --seed 5", "a hat", {"seeds": (5,)}),
        ("a hat --seed=0-2 --guidance 3.5", "a hat", {"seeds": (0, 1, 2), "guidance": 3.5}),
        (
            "a hat --negative it's blue --size 64",
            "a hat",
            {"negative_prompt": "it's blue", "width": 64, "height": 64},
        ),
        ("a hat --negative", "a hat", {"negative_prompt": ""}),
        ("a hat --scheduler euler --steps 3", "a hat", {"scheduler": "euler", "steps": 3}),
    ],
)
def test_what_a_line_says_of_its_picture(line: str, prompt: str, said: dict[str, object]) -> None:
    assert read_line(line) == (prompt, said)


def test_a_first_seed_goes_on_as_often_as_is_asked_for() -> None:
    assert read_line("a hat --seed 5", 3) == ("a hat", {"seeds": (5, 6, 7)})
    assert len(read_line("a hat --seed random", 3)[1]["seeds"]) == 3


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("a hat --n fog", "no option --n", "it is --negative here"),
        ("a hat --sede 3", "no option --sede", "did you mean --seed"),
        ("a hat --steps 3 --steps 4", "said twice", "once"),
        ("a hat --size 64 --size 32", "said twice", "once"),
        ("a hat --steps many", "no number", None),
        ("--prompt a hat", "no prompt before", "write it first"),
    ],
)
def test_a_line_that_cannot_be_read_is_told(line: str, what: str, hint: str | None) -> None:
    with pytest.raises(PerfError, match=what) as caught:
        read_line(line)
    assert (hint or "") in (caught.value.hint or "")


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_each_prompt_is_drawn_as_if_it_were_alone(perf):
    (perf.root / "p.txt").write_text(PROMPTS)
    drawn = perf("render", "--prompts", "p.txt", "--seed", 3, "--out", "all").stdout.split()
    assert drawn == [
        "all/a-teddy-in-the-snow-3.png",
        "all/a-teapot-at-night-7.png",
        "all/a-teapot-at-night-9.png",
        "all/a-red-hat-3.png",
    ]
    alone = [
        ["a teddy* in the snow", "--seed", 3],
        ["a teapot* at night", "--seed", 7, "--negative", "blue fog", "--steps", 1],
        ["a teapot* at night", "--seed", 9, "--negative", "blue fog", "--steps", 1],
        ["a red hat", "--seed", 3, "--size", "64x32"],
    ]
    for path, arguments in zip(drawn, alone, strict=True):
        (one,) = perf("render", *arguments, "--out", "alone").stdout.split()
        assert np.array_equal(pixels(path), pixels(one))
        assert read_metadata(perf.root / path).same_picture(read_metadata(perf.root / one))
    again = perf("render", "--from", drawn[2], "--out", "again.png").stdout.strip()
    assert np.array_equal(pixels(again), pixels(drawn[2]))
    assert perf("render", "--prompts", "p.txt", "--seed", 3, "--out", "all").stdout.split() == drawn


@pytest.mark.parametrize("arguments", [["--prompts", "-"], ["-"]])
def test_prompts_come_from_standard_input(perf, arguments):
    said = json.loads(perf("render", *arguments, "--count", 2, "--json", text="a hat\na teddy*\n").stdout)
    assert said["schema"] == "perf.render-list/1"
    assert [one["place"] for one in said["prompts"]] == ["stdin:1", "stdin:2"]
    assert [[p["seed"] for p in one["pictures"]] for one in said["prompts"]] == [[0, 1], [0, 1]]
    assert said["prompts"][1]["composition"]["concepts"][0]["name"] == "teddy"
    paths = [picture["path"] for one in said["prompts"] for picture in one["pictures"]]
    assert len(set(paths)) == 4
    assert all((perf.root / path).is_file() for path in paths)


def test_pictures_of_prompts_that_begin_alike_have_names_of_their_own(perf):
    words = "word " * 12
    text = f"{words} snow\n{words} night\n"
    drawn = perf("render", "-", "--steps", 1, text=text).stdout.split()
    assert len(set(drawn)) == 2
    assert perf("render", "-", "--steps", 1, text=text).stdout.split() == drawn


def test_shards_name_their_pictures_as_one_run_does(perf):
    words = "word " * 12
    (perf.root / "p.txt").write_text(f"{words} snow\n{words} night\na hat\n{words} snow\n")
    how = ["--prompts", "p.txt", "--steps", 1, "--out"]
    whole = perf("render", *how, "all").stdout.split()
    assert len(set(whole)) == 4
    alone = [perf("render", *how, f"part-{n}", "--shard", f"{n}/2").stdout.split() for n in (2, 1)]
    assert [Path(path).name for path in alone[1] + alone[0]] == [Path(whole[at]).name for at in (0, 2, 1, 3)]
    together = [perf("render", *how, "one", "--shard", f"{n}/2").stdout.split() for n in (2, 1)]
    for path in together[0] + together[1]:
        assert np.array_equal(pixels(path), pixels(f"all/{Path(path).name}"))
    idle = perf("render", *how, "none", "--shard", "5/8")
    assert "shard 5/8 has nothing to do: there are no more than 4 prompts" in idle.stderr
    assert not (perf.root / "none").exists()
    wrong = perf("render", "-", "--shard", "5/8", text="a hat\na teddi*\n", code=2)
    assert "stdin:2" in wrong.stderr


def test_one_sheet_shows_all_prompts(perf):
    said = perf("render", "-", "--sheet", "sheet.png", text="a teddy*\na teapot* --steps 1\n")
    assert said.stdout.split()[-1] == "sheet.png"
    with Image.open(perf.root / "sheet.png") as sheet:
        assert sheet.width > 2 * 320
    perf("render", "-", "--sheet", "sheet.png", text="a teddy*\na teapot* --steps 1\n")
    perf("render", "-", "--sheet", "sheet.png", text="a teddy*\n", code=2)


def test_every_mistake_of_every_line_is_told_before_the_base_is_loaded(perf):
    text = "a hat\na teddi*\na teddy*{bias=x}\na cat*\na teapot* --n fog\n\na teapot* --steps 0\n"
    told = perf("render", "-", text=text, code=2).stderr
    assert "5 mistakes in the prompts" in told
    for place in ("stdin:2, column 3", "stdin:3, column", "stdin:4, column 3", "stdin:5", "stdin:7"):
        assert place in told
    assert "did you mean teddy*?" in told
    assert "for instance bias=.55" in told
    assert "Loading" not in told
    assert not (perf.root / "renders").exists()
    one = perf("render", "-", text="a hat\na teddi*\n", code=2).stderr
    assert "There is no concept 'teddi' here" in one
    assert "stdin:2, column 3" in one
    assert "^^^^" in one


def test_what_only_the_base_can_tell_is_told_before_anything_is_drawn(perf):
    told = perf("render", "-", text="a hat\na hat --steps 1000\na red hat\n", code=2).stderr
    assert "stdin:2" in told
    assert "Drawing" not in told
    assert not (perf.root / "renders").exists()


def test_a_gate_counts_in_the_prompts_that_call_its_concept(perf):
    text = "a teddy* at night\na teapot* at night\na red hat\n"
    said = json.loads(perf("render", "-", "--bias", "teddy=.3", "--json", text=text).stdout)
    assert [one["composition"]["concepts"][0]["bias"] for one in said["prompts"][:2]] == [0.3, 0.6]
    every = json.loads(perf("render", "-", "--bias", ".3", "--json", text=text).stdout)
    assert [one["composition"]["concepts"][0]["bias"] for one in every["prompts"][:2]] == [0.3, 0.3]
    assert "does not call" in perf("render", "-", "--bias", "cat=.3", text=text, code=2).stderr


def test_what_cannot_go_with_a_list_is_refused(perf):
    (perf.root / "p.txt").write_text("a hat\na red hat\n")
    for arguments, what in (
        (["a hat", "--prompts", "p.txt"], "A prompt and --prompts cannot go together"),
        (["--prompts", "p.txt", "--from", "x.png"], "cannot go together"),
        (["--prompts", "p.txt", "--out", "x.png"], "--out is one file, and p.txt has 2 prompts"),
        (["--prompts", "none.txt"], "cannot be read"),
    ):
        assert what in perf("render", *arguments, code=2).stderr
    scene = json.loads(perf("render", "-", "--scene", "sailing", "--json", text="a teddy* at sea\n").stdout)
    assert scene["prompts"][0]["composition"]["concepts"][0]["bias"] == 0.4
