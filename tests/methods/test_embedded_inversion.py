"""Textual inversion on the embedded base: built, published, synced into another project, explained, drawn.

Of how it looks nothing is asked: a few steps teach it little, and many make it no more like its images
(`docs/log.md`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import perfusion_registry as perf
from perfusion_registry.artifact import load_artifact
from perfusion_registry.operations.schemas import text_of
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.safetensors_header import read_header

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PROMPT = "a moss* sailing in a teapot*"
MOSS = """\
[concept]
name = "moss"
version = "1.0.0"
method = "textual-inversion"
supercategory = "teddy"
images = ["teddy/*.png"]
licence = "Apache-2.0"
authors = ["The perf authors"]
consent = "nobody is shown"

[train]
steps = 3
batch = 2
learning_rate = 0.05
validate_every = 3
validation_steps = 1
validation_prompts = ["a photo of a {}"]
"""
QUICK = (
    "\n[train]\nsteps = 2\nbatch = 2\nvalidate_every = 2\nvalidation_steps = 1\n"
    'validation_prompts = ["a photo of a {}"]\n'
)
AWAY = """\
[project]
name = "away"
base = "storybook"

[concepts]
moss = { version = ">=1", registry = "studio" }
teapot = { version = ">=1", registry = "studio" }

[registries]
studio = "../studio"
"""


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> perf.Project:
    """The repository's own teapot beside a textual inversion of its teddy, built."""
    monkeypatch.setenv("PERF_DATA_DIR", str(tmp_path / "data"))
    place = tmp_path / "author"
    shutil.copytree(ROOT / "recipes", place / "recipes")
    recipe = place / "recipes" / "teapot.toml"
    recipe.write_text(recipe.read_text(encoding="utf-8") + QUICK, encoding="utf-8")
    (place / "recipes" / "moss.toml").write_text(MOSS, encoding="utf-8")
    (place / "perfusion.toml").write_text(
        '[project]\nname = "author"\nbase = "storybook"\n\n[concepts]\n'
        'moss = { recipe = "recipes/moss.toml" }\nteapot = { recipe = "recipes/teapot.toml" }\n',
        encoding="utf-8",
    )
    home = perf.open(place, store=tmp_path / "store-author")
    assert {row.name for row in home.build(device="cpu").built} == {"moss", "teapot"}
    return home


def test_from_a_build_through_a_registry_to_a_picture_with_a_perfusion_concept(
    author: perf.Project, tmp_path: Path
) -> None:
    studio = str(tmp_path / "studio")
    for name in ("moss", "teapot"):
        author.publish(name, registry=studio)
    block = read_lockfile(author.root / "perfusion.lock").concept("moss")
    assert block is not None
    assert (block.method, dict(block.render)) == ("textual-inversion", {})

    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "perfusion.toml").write_text(AWAY, encoding="utf-8")
    away = perf.open(tmp_path / "away", store=tmp_path / "store-away")
    away.sync()
    synced = read_lockfile(away.root / "perfusion.lock").concept("moss")
    assert synced is not None
    assert (synced.sha256, synced.method) == (block.sha256, "textual-inversion")
    with away.workspace() as workspace:
        path = workspace.store.path(synced.sha256 or "")
    artifact = load_artifact(path)
    assert set(artifact.tensors) == {"embedding"}
    assert artifact.card.covariance is None
    card = json.loads(read_header(path.read_bytes(), limit=2**20).metadata["concept"])
    check = jsonschema.Draft202012Validator(json.loads(text_of("concept-card")))
    check.validate(card)
    card["train"]["residual_rank"] = 0.1
    assert not check.is_valid(card)

    composer = away.composer(device="cpu")
    explained = composer.explain(PROMPT)
    assert [(c.name, c.method) for c in explained.concepts] == [
        ("moss", "textual-inversion"),
        ("teapot", "perfusion"),
    ]
    assert {name for row in explained.tokens for name in row.gate} == {"teapot"}
    assert (explained.concepts[0].bias, explained.concepts[0].own_similarity) == (None, None)
    own = explained.concepts[1].own_similarity
    assert own is not None
    assert 0.5 < own <= 1.5
    pictures = [
        np.asarray(next(iter(composer.render(text, steps=2))).image)
        for text in (PROMPT, "a teddy sailing in a teapot*", PROMPT)
    ]
    assert not np.array_equal(pictures[0], pictures[1])
    np.testing.assert_array_equal(pictures[0], pictures[2])
