"""docs/recipes.md: every option of a recipe is there, and what is shown there can be read."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
import tomli

from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.methods.files import parse_manifest, read_recipe_or_pack
from perfusion_registry.methods.lora import options as lora
from perfusion_registry.methods.perfusion.options import PerfusionRecipe, RenderSection, TrainSection
from perfusion_registry.methods.perfusion.presets import PRESET_NAMES
from perfusion_registry.methods.textual_inversion.options import InversionRecipe
from perfusion_registry.recipe import Pack
from perfusion_registry.recipe.options import MaskSource

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")


def examples(page: str = PAGE) -> list[str]:
    """The indented blocks of a page."""
    blocks: list[list[str]] = [[]]
    for line in page.splitlines():
        if line.startswith("    ") or (not line and blocks[-1]):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [textwrap.dedent("\n".join(block)) for block in blocks if block]


@pytest.mark.parametrize("section", [TrainSection, RenderSection, lora.RenderSection])
def test_every_option_is_described(section) -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    described = {part.strip("` ") for row in rows for part in row.split(",")}
    assert set(section.model_fields) <= described


def test_every_mask_and_preset_is_named() -> None:
    for name in (*MaskSource.__args__, *PRESET_NAMES):
        assert f"`{name}`" in PAGE or f'"{name}"' in PAGE


def test_the_examples_are_a_recipe_and_a_scene() -> None:
    files = [block for block in examples() if not block.startswith("perf ")]
    recipe, release, scene, inversion, somebodys = files
    read = PerfusionRecipe.model_validate_json(_json(recipe))
    assert read.train.flip is False
    whole = tomli.loads(recipe)
    whole["concept"] |= tomli.loads(release)["concept"]
    assert PerfusionRecipe.model_validate_json(json.dumps(whole)).concept.preview == "bunny/1.png"
    assert read.render.key_lock == "global"
    word = InversionRecipe.model_validate_json(_json(inversion.replace("9ae0...", 64 * "9"))).concept
    assert (word.file, word.images) == ("../learned_embeds.safetensors", ())
    imported = lora.LoraRecipe.model_validate_json(_json(somebodys.replace("4f1c...", 64 * "4")))
    assert imported.concept.word == "ohwx cat"
    project = '[project]\nname = "p"\nbase = "storybook"\n'
    manifest = parse_manifest(project + scene, where="docs/recipes.md")
    assert manifest.scenes["sailing"].gates["teddy"].model_dump()["key_lock"] == "global"


def _json(text: str) -> str:
    return json.dumps(tomli.loads(text))


def test_the_page_on_packs_shows_the_pack_that_is_there() -> None:
    root = Path(__file__).parents[2]
    file = (root / "recipes" / "outings.toml").read_text(encoding="utf-8")
    (shown,) = examples((root / "docs" / "packs.md").read_text(encoding="utf-8"))
    assert shown.strip() == file.split("\n\n", 1)[1].strip()
    pack = read_recipe_or_pack(root / "recipes" / "outings.toml")
    assert isinstance(pack, Pack)
    for scene in pack.scenes.values():
        assert set(parse_prompt(scene.prompt).names) <= set(pack.pack.requires)
        assert set(scene.gates) <= set(parse_prompt(scene.prompt).names)
