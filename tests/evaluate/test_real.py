"""`benchmarks/real` on a tiny base: what it measures, that it goes on, and how it draws what others made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from benchmarks.real.__main__ import measure, parsed
from benchmarks.real.asked import PROMPTS, require_the_same
from benchmarks.real.comparison import Comparison
from benchmarks.real.measured import run
from benchmarks.real.ours import Drawing, Ours
from benchmarks.real.subjects import read_subjects
from perfusion_registry.errors import PerfError
from tests.base.test_likeness import save_dino

CAPTIONS = ["a photo of a teddy", "a cat in the snow", "a teapot on a table", "a red boat at sea"]
SCRIPT = """\
import argparse
import json
from pathlib import Path
from safetensors import safe_open
from safetensors.torch import save_file

parser = argparse.ArgumentParser()
texts = "pretrained_model_name_or_path train_data_dir placeholder_token initializer_token output_dir"
for name in texts.split():
    parser.add_argument(f"--{name}", required=True)
for name in ("resolution", "max_train_steps"):
    parser.add_argument(f"--{name}", type=int, required=True)
told, _ = parser.parse_known_args()
assert told.resolution == 64 and told.max_train_steps == 3, told
assert {path.suffix for path in Path(told.train_data_dir).iterdir()} == {".jpg"}
base = Path(told.pretrained_model_name_or_path)
row = json.loads((base / "tokenizer" / "vocab.json").read_text())[told.initializer_token + "</w>"]
with safe_open(base / "text_encoder" / "model.safetensors", "pt") as file:
    (name,) = (name for name in file.keys() if name.endswith("token_embedding.weight"))
    learned = {told.placeholder_token: file.get_tensor(name)[[row]]}
Path(told.output_dir).mkdir(parents=True)
save_file(learned, Path(told.output_dir) / "learned_embeds.safetensors")
"""
"""Told as diffusers' textual_inversion.py is, and leaves what it leaves; but it learns the word itself."""


def save_subjects(folder: Path) -> Path:
    for name, count in (("My_Teddy", 2), ("teapot2", 2)):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            pixels = np.random.default_rng(k).integers(0, 255, (80, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.jpg", quality=95)
    (folder / "My_Teddy" / "supercategory.txt").write_text("teddy\n")
    classes = "Classes\n\nsubject_name,class\nteapot2,teapot\nMy_Teddy,toy\n"
    (folder / "prompts_and_classes.txt").write_text(f"{classes}\nprompt_list = [\n'a {{0}} {{1}} in snow',\n")
    return folder


def test_subjects_are_read_as_they_are_published(tmp_path: Path) -> None:
    subjects = read_subjects(save_subjects(tmp_path / "subjects"))
    assert [(one.name, one.word, len(one.pictures)) for one in subjects] == [
        ("my-teddy", "teddy", 2),
        ("teapot2", "teapot", 2),
    ]
    for name in ("a_cat", "empty"):
        (tmp_path / "subjects" / name).mkdir()
    (tmp_path / "subjects" / "empty" / "supercategory.txt").write_text("cat")
    with pytest.raises(
        PerfError, match=r"a_cat has no supercategory.txt, .* does not list it; empty has no pic"
    ):
        read_subjects(tmp_path / "subjects")


def test_what_was_killed_is_begun_again_and_says_whether_its_seconds_are_all(tmp_path: Path) -> None:
    script = tmp_path / "dies_once.py"
    script.write_text(
        "import os, pathlib, sys\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "if not place.exists():\n"
        "    place.touch()\n"
        "    os.kill(os.getpid(), 9)\n"
        "held = bytearray(300 * 2**20)\n"
    )
    for goes_on in (True, False):
        result, place = tmp_path / f"{goes_on}.json", tmp_path / f"{goes_on}.marker"
        with pytest.raises(PerfError, match="it ended with -9"):
            run(result, [str(script), str(place)], goes_on=goes_on)
        assert not result.exists()
        found = run(result, [str(script), str(place)], goes_on=goes_on)
        assert found["interrupted"] is goes_on
        assert 0.3 < found["peak_gib"] < 1
        place.unlink()
        assert run(result, [str(script), str(place)], goes_on=goes_on) == found  # and not once more
        assert not place.exists()


def test_memory_is_that_of_the_program_alone(tmp_path: Path) -> None:
    held = b"x" * (600 * 2**20)
    (tmp_path / "idle.py").write_text("")
    assert run(tmp_path / "idle.json", [str(tmp_path / "idle.py")])["peak_gib"] < 0.3
    assert len(held) == 600 * 2**20


@pytest.fixture
def command(tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv(
        "PERF_CACHE_DIR", str(tmp_path / "cache")
    )  # which the command sets, and this takes back
    shutil.rmtree(save_subjects(tmp_path / "subjects") / "teapot2")
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS * 10))
    (tmp_path / "prompts.txt").write_text("a photo of a {}\n\na {} in the snow\n")
    script = tmp_path / "diffusers" / "examples" / "textual_inversion" / "textual_inversion.py"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)

    def run(*more: str) -> Any:
        places = [str(tiny_base_folder), str(tmp_path / "subjects"), "--out", str(tmp_path / "out")]
        files = ["--captions", str(tmp_path / "captions.txt"), "--prompts", str(tmp_path / "prompts.txt")]
        few = ["--seeds", "1", "--steps", "2", "--train-steps", "2", "--device", "cpu"]
        return measure(parsed([*places, *files, *few, *more]))

    return run


def test_what_decides_is_refused_when_it_changes_and_a_mistake_is_not_kept(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    for wrong, said in {
        "prompts": "the prompts cannot be read",
        "captions": "--captions names no file",
        "dino": "--dino names no folder",
    }.items():
        with pytest.raises(PerfError, match=said):
            command(f"--{wrong}", str(tmp_path / "mistyped"))
    with pytest.raises(PerfError, match="no closing quotation"):
        command("--script-arguments", "'half")
    assert not (tmp_path / "out" / "asked.json").exists()

    out = tmp_path / "out"

    def refused(*more: str) -> str:
        """Why, or "": as a command begins, which is then written down."""
        asked = parsed(["storybook", str(tmp_path / "subjects"), *more])
        try:
            said = require_the_same(out / "asked.json", asked, read_subjects(asked.subjects), PROMPTS)
        except PerfError as error:
            return error.what
        (out / "asked.json").write_text(json.dumps(said))
        return ""

    assert not refused()
    assert not refused("--seeds", "9", "--dino", "somewhere")
    assert "--guidance was None" in refused("--guidance", "3")
    scripts = ["--diffusers-examples", "diffusers", "--script-arguments"]
    assert not refused(*scripts, "mistyped")
    assert not refused(*scripts, "right")  # for nothing came of the mistyped one
    (out / "runs" / "textual-inversion").mkdir(parents=True)
    (out / "runs" / "textual-inversion" / "my-teddy.json").touch()
    assert "--script-arguments was 'right'" in refused(*scripts, "other")
    shutil.copytree(tmp_path / "subjects" / "My_Teddy", tmp_path / "subjects" / "second")
    assert not refused()
    shutil.copy(tmp_path / "subjects" / "second" / "0.jpg", tmp_path / "subjects" / "My_Teddy" / "1.jpg")
    assert "the subject my-teddy was another" in refused()


def picture(out: Path, method: str, subject: str, name: str) -> np.ndarray:
    return np.asarray(Image.open(out / "pictures" / method / subject / f"{name}.png").convert("RGB")).astype(
        int
    )


@torch.no_grad()
def by_clip(folder: Path, pixels: np.ndarray) -> float:
    """How alike a picture and "a in the snow" are, by transformers' own model."""
    clip, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    image = torch.from_numpy(pixels).permute(2, 0, 1).float()[None] / 255
    image = functional.interpolate(image, (32, 32), mode="bicubic", antialias=True).clamp(0, 1)
    seen = clip.visual_projection(clip.vision_model((image - mean) / std).pooler_output)
    words = tokenizer(["a in the snow"], return_tensors="pt")
    text = clip.text_projection(clip.text_model(**words).pooler_output)
    return float(functional.cosine_similarity(seen, text)[0])


@pytest.mark.slow
def test_subjects_are_learned_drawn_and_told(
    command: Callable[..., Any], tiny_base_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = command()
    assert not report["failed"]
    perf, plain = report["summary"]["perf"], report["summary"]["the plain word"]
    assert set(perf) == {"seconds", "peak_gib", "bytes", "seconds_per_picture", "image", "text"}
    assert set(plain) == {"seconds_per_picture", "image", "text"}
    assert perf["seconds"] > 0.5
    assert 0.1 < perf["peak_gib"] < 8
    assert len(list(out.glob("pictures/*/*/*.png"))) == 2 * 2 * 1
    assert np.abs(
        picture(out, "perf", "my-teddy", "1-0") - picture(out, "the-plain-word", "my-teddy", "1-0")
    ).max()

    seen = by_clip(tiny_base_folder / "clip", picture(out, "perf", "my-teddy", "1-0"))
    kept = json.loads((out / "scores.json").read_text())["clip"]
    assert kept["pictures/perf/my-teddy/1-0.png"]["text"] == pytest.approx(seen, abs=1e-3)

    page = (out / "report.md").read_text()
    assert (
        "| method | seconds to learn | GiB, learning | KB | seconds a picture | CLIP image | CLIP text |"
        in page
    )
    before = {path: path.stat().st_mtime_ns for path in out.glob("pictures/*/*/*.png")}
    for stray in ("0-1", "1-1"):  # as of a command with more seeds
        Image.new("RGB", (64, 64), "red").save(out / "pictures" / "perf" / "my-teddy" / f"{stray}.png")
        before |= {path: path.stat().st_mtime_ns for path in out.glob(f"pictures/*/*/{stray}.png")}
    again = command()
    assert again["subjects"] == report["subjects"]
    assert {path: path.stat().st_mtime_ns for path in out.glob("pictures/*/*/*.png")} == before
    with pytest.raises(PerfError, match="results of another command: --steps was 2"):
        command("--steps", "3")

    save_dino(tmp_path / "dino")
    more = ["--diffusers-examples", str(tmp_path / "diffusers"), "--script-arguments", "--max_train_steps 3"]
    more += ["--dino", str(tmp_path / "dino")]
    beside = command(*more)
    (told,) = beside["failed"]
    assert told.startswith(
        "custom diffusion, my-teddy: it is no checkout of diffusers: it has no such script"
    )
    learned = beside["subjects"]["textual inversion"]["my-teddy"]
    left = out / "runs" / "textual-inversion" / "my-teddy" / "out" / "learned_embeds.safetensors"
    assert (learned["bytes"], learned["interrupted"]) == (left.stat().st_size, False)
    for name in ("0-0", "1-0"):  # the word itself, drawn as perf draws it
        theirs = picture(out, "textual-inversion", "my-teddy", name)
        assert np.abs(theirs - picture(out, "the-plain-word", "my-teddy", name)).max() <= 1
    ours = dict(beside["subjects"]["perf"]["my-teddy"])
    assert -1 <= ours.pop("dino") <= 1
    assert ours == report["subjects"]["perf"]["my-teddy"]
    with pytest.raises(PerfError, match="--script-arguments was '--max_train_steps 3'"):
        command(*more[:2], *more[4:])

    (out / "pictures" / "perf" / "my-teddy" / "0-0.png").unlink()
    asked = parsed([str(tiny_base_folder), str(tmp_path / "subjects"), "--out", str(out)])
    rest = Comparison(
        out,
        read_subjects(asked.subjects),
        Ours(out / "project", asked.base, None, None, None, {}),
        Drawing((0,), 2, None),
        ("a photo of a {}", "a {} in the snow"),
        {},
        (),
        None,
        [],
        rows={"perf": {"my-teddy": {}}},
    )
    assert rest.like.request.steps == 2  # of the second picture, where the first could not be drawn
    (out / "pictures" / "perf" / "my-teddy" / "1-0.png").unlink()
    with pytest.raises(PerfError, match="perf has drawn no picture"):
        rest.like  # noqa: B018 - it is a property
    assert "drawn with" not in rest._write()["about"]
