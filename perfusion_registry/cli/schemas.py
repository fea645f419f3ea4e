"""The JSON Schemas beside a project, for the completion and checks of editors."""

from __future__ import annotations

from pathlib import Path

_FOLDER = ".perf/schemas"
_NAMES = ("manifest", "recipe", "pack")


def place_schemas(root: Path) -> str:
    """The folder, relative to the project, of the schemas that its files point to; written if need be."""
    from perfusion_registry.recipe.schemas import schema_file, schema_text
    from perfusion_registry.recipe.writing import make_folder, replace_text

    if all((root / "schemas" / schema_file(name)).is_file() for name in _NAMES):
        return "schemas"
    make_folder(root / _FOLDER)
    for name in _NAMES:
        replace_text(root / _FOLDER / schema_file(name), schema_text(name))
    return _FOLDER
