"""`perf suggest-super`: words ranked by CLIP, from three kinds of lists."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from perfusion_registry.base.pixels import Preprocessing
from perfusion_registry.build.framing import square
from perfusion_registry.build.images import load_image
from perfusion_registry.build.nouns import read_words, wordnet_nouns
from perfusion_registry.cli.suggest import _tell
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.suggest import SuggestedWord, SuggestResult
from tests.cli.running import Perf

INDEX = """\
  1 This software and database is being provided to you, the LICENSEE
  2 under the following license.
bach n 2 2 @ @i 2 1 10908402 07253637
paris n 1 3 #p @i - 1 1 08930145
teapot n 1 2 @ ~ 1 0 04398044
teddy n 1 1 @ 1 0 04399382
teddy_bear n 1 1 @ 1 0 04399383
entity n 1 1 ~ 1 11 00001740
"""
NOUNS = ["bach", "teapot", "teddy", "teddy bear", "entity"]


@pytest.fixture
def no_wordnet(monkeypatch: pytest.MonkeyPatch, place: Path) -> Path:
    """A home without corpora of its own."""
    monkeypatch.delenv("NLTK_DATA", raising=False)
    monkeypatch.setenv("HOME", str(place))
    if wordnet_nouns() is not None:
        pytest.skip("this machine has WordNet for all users")
    return place


def by_hand(folder: Path, files: list[Path], words: list[str]) -> list[tuple[str, float]]:
    """The ranking by the whole CLIP model's own forward pass, one word at a time."""
    model = CLIPModel.from_pretrained(folder / "clip").eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder / "clip")
    prepare = Preprocessing.clip(32)
    pixels = torch.cat([prepare(square(load_image(file).pixels, (32, 32))[None]) for file in files])
    scores = []
    for word in words:
        tokens = tokenizer(f"a photo of a {word}", return_tensors="pt")
        with torch.no_grad():
            out = model(**tokens, pixel_values=pixels)
        scores.append((word, float((out.image_embeds @ out.text_embeds.T).mean())))
    return sorted(scores, key=lambda score: -score[1])


def test_that_none_fits_is_said_before_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    words = (SuggestedWord(word="table", similarity=-0.25, best_of=5, tokens=1),)
    facts: dict[str, Any] = {"base": "b", "source": "b", "images": 5, "considered": 8, "words": words}
    _tell(SuggestResult(**facts, fits=False), with_tokens=False)
    first, second, *table = capsys.readouterr().out.splitlines()
    assert first.startswith("None of 8 words fits: even table is no nearer to the images than chance (-0.25)")
    assert "so this base will hardly draw such a thing" in first
    assert second == "Nearest, though none fits:"
    assert table[0].split()[0] == "word"
    _tell(SuggestResult(**facts, fits=True), with_tokens=False)
    assert "fits" not in capsys.readouterr().out
    # Of words that somebody chose it follows that none of these fits, and nothing about the base.
    _tell(SuggestResult(**{**facts, "source": "words.txt"}, fits=False), with_tokens=False)
    assert "hardly" not in capsys.readouterr().out


def test_words_are_ranked_as_clip_ranks_them(
    perf: Perf, place: Path, pictures: Path, tiny_base_folder: Path
) -> None:
    Image.new("L", (64, 64), 255).save(pictures / "1.mask.png")
    (place / "words.txt").write_text("# mine\nchair\n  cat \nred boat\n\ntable # flat\nteapot\ncat\n")
    asked = ("suggest-super", "photos/*.*", "--base", str(tiny_base_folder), "--words", "words.txt")
    said = perf(*asked, "--json").json
    files = [pictures / name for name in ("1.png", "2.png", "IMG_3.JPG")]
    expected = by_hand(tiny_base_folder, files, ["chair", "cat", "table", "teapot"])
    assert [row["word"] for row in said["words"]] == [word for word, _ in expected]
    assert [row["similarity"] for row in said["words"]] == pytest.approx(
        [score for _, score in expected], abs=1e-5
    )
    assert (said["images"], said["considered"], said["source"]) == (3, 4, "words.txt")
    assert sum(row["best_of"] for row in said["words"]) == 3

    assert said["fits"] is (expected[0][1] > 0)

    several = perf(*asked, "--any", "--json").json["words"]
    assert {row["word"]: row["tokens"] for row in several}["red boat"] == 2
    shown = perf(*asked, "--limit", "2")
    assert [line.split()[0] for line in shown.out.splitlines()] == [
        "word",
        *[w for w, _ in expected[:2]],
        "and",
    ]
    assert "and 2 more words" in shown.out


def test_the_base_is_the_projects_and_its_nouns_are_wordnets(
    perf: Perf, project: Path, no_wordnet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = perf("suggest-super", "photos/1.png")
    assert said.code == 2
    assert "WordNet is not installed, and perf does not download it" in said.err
    assert "--words" in said.err

    folder = no_wordnet / "data" / "corpora"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "wordnet.zip", "w") as corpus:
        corpus.writestr("wordnet/index.noun", INDEX)
    monkeypatch.setenv("NLTK_DATA", str(no_wordnet / "data"))
    found = perf("suggest-super", "photos/1.png", "--json").json
    assert found["source"] == "wordnet"
    assert {row["word"] for row in found["words"]} == {"teapot", "teddy"}  # the tiny base's single tokens


def test_wordnet_is_read_packed_and_unpacked_and_damage_is_told(place: Path) -> None:
    plain, packed, broken = place / "plain", place / "packed" / "corpora", place / "broken" / "corpora"
    (plain / "corpora" / "wordnet").mkdir(parents=True)
    (plain / "corpora" / "wordnet" / "index.noun").write_text(INDEX)
    packed.mkdir(parents=True)
    with zipfile.ZipFile(packed / "wordnet31.zip", "w") as corpus:
        corpus.writestr("wordnet31/index.noun", INDEX)
    assert wordnet_nouns([place / "nowhere", plain]) == NOUNS
    assert wordnet_nouns([packed.parent]) == NOUNS
    assert wordnet_nouns([plain / "corpora" / "wordnet"]) == NOUNS  # as Debian has it
    assert wordnet_nouns([place / "nowhere"]) is None
    broken.mkdir(parents=True)
    (broken / "wordnet.zip").write_bytes(b"no archive")
    with pytest.raises(PerfError, match="WordNet cannot be read"):
        wordnet_nouns([broken.parent])
    (plain / "corpora" / "wordnet" / "index.noun").write_text("teapot\n")
    with pytest.raises(PerfError, match="WordNet cannot be read"):
        wordnet_nouns([plain])


@pytest.mark.parametrize(
    ("text", "told"), [("", "no words"), ("cat\na*b\n", "'a*b' cannot be"), ("x" * 65, "cannot be")]
)
def test_a_list_that_is_none_is_told_with_its_line(place: Path, text: str, told: str) -> None:
    (place / "words.txt").write_text(text)
    with pytest.raises(PerfError, match=told.replace("*", r"\*")) as caught:
        read_words(place / "words.txt")
    assert caught.value.where == f"{place / 'words.txt'}{':2' if '*' in text else ':1' if text else ''}"


def test_mistakes_are_told(perf: Perf, project: Path, tiny_base_folder: Path) -> None:
    (project / "words.txt").write_text("zebra\nokapi\n")
    said = perf("suggest-super", "photos/1.png", "--words", "words.txt")
    assert "Of the 2 words given, none is a single word" in " ".join(said.err.split())
    (project / "empty").mkdir()
    assert "there are no pictures in the folder `empty`" in perf("suggest-super", "empty").err.lower()
    whole = perf("suggest-super", "photos", "--words", "words.txt")  # a folder is the pictures in it
    assert "Of the 2 words given, none is a single word" in " ".join(whole.err.split())
    assert "no image matches" in perf("suggest-super", "nothing/*").err.lower()
    shutil.copytree(tiny_base_folder, project / "blind")
    shutil.rmtree(project / "blind" / "clip")
    said = perf("suggest-super", "photos/1.png", "--base", "./blind", "--words", "words.txt")
    assert said.code == 2
    assert "has no CLIP model" in said.err
