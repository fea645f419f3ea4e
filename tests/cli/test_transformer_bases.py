"""From a folder with a transformer to two concepts in a picture, by commands alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from perfusion_registry.cli import app
from tests.cli.test_bases_page import FAST, run
from tests.transformer_bases import KINDS


@pytest.mark.parametrize("name", KINDS)
def test_two_concepts_on_a_base_with_a_transformer(
    name: str, shared: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERF_CACHE_DIR", str(tmp_path / "store"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    shutil.copytree(shared(f"tiny-{name}", KINDS[name].save), here / "base")
    random = np.random.default_rng(0)
    for folder in ("bunny", "cup"):
        (here / "photos" / folder).mkdir(parents=True)
        photo = Image.fromarray(random.integers(0, 255, (96, 128, 3), dtype=np.uint8))
        photo.save(here / "photos" / folder / "1.png")
    words = ["teddy", "cat", "teapot", "boat", "snow", "table", "red", "glass"]
    (here / "captions.txt").write_text("\n".join(f"a photo of a {a} and a {b}" for a in words for b in words))

    run("init", "--base", "./base")
    told = CliRunner().invoke(app, ["doctor"]).output
    assert "comes without a covariance" in told
    assert "perf covariance" in told
    assert "32 x 32" in run("covariance", "captions.txt", "--out", "covariance.safetensors")
    manifest = here / "perfusion.toml"
    line = '[project]\ncovariance = "covariance.safetensors"\n'
    manifest.write_text(manifest.read_text().replace("[project]\n", line))
    run("add", "bunny", "--super", "cat", "--images", "photos/bunny")
    run("add", "cup", "--super", "zxq", "--images", "photos/cup")
    for recipe in (here / "recipes").glob("*.toml"):
        text = recipe.read_text()
        recipe.write_text(text.replace("\n[train]\n", FAST) if "\n[train]\n" in text else text + FAST)
    output = run("build")
    assert "reads the supercategory 'zxq' as" in " ".join(output.split())
    run("render", "a bunny* in a cup*", "--steps", "2", "--count", "2")
    pictures = sorted(here.glob("renders/**/*.png"))
    assert len(pictures) == 2
    assert np.asarray(Image.open(pictures[0])).std() > 1
    assert f'architecture = "{name}"' in (here / "perfusion.lock").read_text()
    shown = run("explain", "a bunny* in a cup*")
    assert "bunny" in shown
    run("render", "--from", str(pictures[0]), "--out", "again.png")
    assert np.array_equal(np.asarray(Image.open("again.png")), np.asarray(Image.open(pictures[0])))

    manifest.write_text(manifest.read_text() + '\n[base]\nvae = "other.safetensors"\n')
    for command in (["lock"], ["doctor"]):
        refused = CliRunner().invoke(app, command)
        assert refused.exit_code != 0
        assert f"ases of the kind {name} have no `vae`" in " ".join(refused.output.split())
