"""The examples of docs/library.md and the script of the README: they run, and mypy is shown the same."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import perfusion_registry as perf
from perfusion_registry.artifact import save_artifact
from perfusion_registry.build import load_covariance
from perfusion_registry.methods.perfusion.options import Built
from perfusion_registry.operations.publication import concept_release
from perfusion_registry.registries.opening import open_registry
from tests.compose.samples import artifact

ROOT = Path(__file__).parents[2]
PAGES = {"docs/library.md": "page_examples.py", "README.md": "readme_example.py"}
"""Each page, and the file of this folder that has its examples for mypy."""


def examples(page: str) -> str:
    """The Python of a page, joined."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return "\n".join(found)


@pytest.mark.parametrize("page", PAGES)
def test_mypy_reads_what_the_page_shows(page: str) -> None:
    shown = (Path(__file__).parent / PAGES[page]).read_text(encoding="utf-8").splitlines()
    assert [line for line in shown if line] == [line for line in examples(page).splitlines() if line]


def publish(place: Path, base: Any, registry: str, name: str, word: str) -> None:
    digest = load_covariance(place / "C.safetensors").digest
    built = Built(covariance=digest, step=100)
    made = artifact(base, name, word, 7, built=built, licence="CC0-1.0", authors=("A",))
    blob = save_artifact(made)
    store = place / "publisher's store"
    opened = open_registry(registry, name=registry, root=place, cache=store)
    opened.publish(concept_release(made.card, blob), blob)


def test_the_page_runs_from_top_to_bottom(
    place: Path, tiny_base: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(place, tiny_base, "studio", "boat", "boat")
    names = runpy.run_path(str(Path(__file__).parent / "page_examples.py"))
    assert names["again"].png() == (place / "0.png").read_bytes()
    assert names["image"].size == (64, 64)
    assert names["composition"].concept("teddy").render.key_lock == "global"
    assert "there is no concept 'teddi'" in capsys.readouterr().out


def test_the_script_of_the_readme_runs(place: Path, tiny_base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(place, tiny_base, "gallery", "bunny", "teddy")
    monkeypatch.chdir(place / "tea-party")
    manifest = Path("perfusion.toml")
    text = manifest.read_text(encoding="utf-8")
    entry = 'bunny = { version = ">=1", registry = "gallery" }'
    manifest.write_text(text.replace("[registries]", f"{entry}\n\n[registries]"), encoding="utf-8")
    perf.open().sync()
    project = runpy.run_path(str(Path(__file__).parent / "readme_example.py"))["project"]
    assert project.build().up_to_date == ()
    for seed in range(4):
        with Image.open(f"{seed}.png") as picture:
            assert picture.size == (64, 64)
