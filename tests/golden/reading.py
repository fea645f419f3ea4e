"""Everything that the goldens ask of the package's own modules, in one file, so that moving one changes one.

Each function says what a file says, field by field, as plain JSON. The fields are format 1's and the goldens
hold them by format 1's names: where a model has moved on, the translation belongs here, and the goldens stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfusion_registry.artifact import card_fields, load_artifact, read_card, save_artifact
from perfusion_registry.build import load_covariance, save_covariance
from perfusion_registry.compose.composition import read_composition
from perfusion_registry.methods.files import read_manifest, read_recipe_or_pack
from perfusion_registry.methods.perfusion.tensors import output_keys, outputs
from perfusion_registry.methods.residuals.tensors import residual_of
from perfusion_registry.methods.table import find_method, resolve_train
from perfusion_registry.recipe import Pack, dump_pack, read_lockfile, write_lockfile
from perfusion_registry.recipe.lockfile1 import Lockfile1
from perfusion_registry.registries.index import read_index
from perfusion_registry.render.metadata import read_metadata, read_sheet_digest, sheet_digest
from perfusion_registry.trust.check import is_signature_valid
from tests.golden.keys import TRAIN
from tests.golden.place import GOLDEN


def parsed(text: str) -> Any:
    """The JSON that a command printed; None where it printed nothing."""
    return json.loads(text) if text else None


OLDER = {"pair_prompts": "company", "pair_share": "company_share"}
"""The names in the goldens of what a recipe calls otherwise now."""


def in_order(train: dict[str, Any]) -> dict[str, Any]:
    """Training options by the names, and in the order, in which the goldens have them."""
    train = {OLDER.get(key, key): value for key, value in train.items()}
    return {key: train[key] for key in TRAIN if key in train} | train


def tree(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a folder, by its path; never of lock files."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def artifact(path: Path) -> dict[str, Any]:
    """An artifact: its card, and each tensor's type, shape and digest."""
    read = load_artifact(path)
    assert read.card == read_card(path)
    card = card_fields(read.card).model_dump(mode="json")
    return {
        "card": {**card, "train": in_order(card["train"])},
        "tensors": tensors(read.tensors),
        "views": {
            "outputs": sorted(outputs(read.tensors)),
            "output_keys": sorted(output_keys(read.tensors)),
            "residual": sorted(residual_of(read.tensors)),
        },
    }


def tensors(named: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors by name: each one's type, shape and digest."""
    return {
        name: [
            str(tensor.dtype).removeprefix("torch."),
            list(tensor.shape),
            hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:32],
        ]
        for name, tensor in sorted(named.items())
    }


def artifact_again(path: Path) -> bytes:
    """The artifact, read and written again."""
    return save_artifact(load_artifact(path))


def manifests() -> dict[str, Any]:
    """Every manifest of the goldens, field by field."""
    paths = [*GOLDEN.glob("*/perfusion.toml"), *(GOLDEN / "files").glob("manifest*.toml")]
    return {_name(path): read_manifest(path).model_dump(mode="json") for path in sorted(paths)}


def recipes() -> dict[str, Any]:
    """Every recipe and pack: its fields; a recipe's options, resolved; a pack as it is published."""
    said: dict[str, Any] = {}
    for path in sorted([*GOLDEN.glob("*/recipes/*.toml"), *(GOLDEN / "files").glob("recipe*.toml")]):
        read = read_recipe_or_pack(path)
        fields = {"fields": read.model_dump(mode="json")}
        if not isinstance(read, Pack):
            fields["fields"]["train"] = in_order(fields["fields"]["train"])
        if isinstance(read, Pack):
            fields["published"] = dump_pack(read).decode()
        else:
            fields["train"] = in_order(resolve_train(read, {}).model_dump(mode="json"))
            resolved = find_method(read.concept.method).resolved_before
            fields["render"] = resolved(read, {}).model_dump(mode="json")
            base = {"bias": 0.7, "key_lock": "global", "steps": 9}
            fields["render on a base with defaults"] = resolved(read, base).model_dump(mode="json")
        said[_name(path)] = fields
    return said


def lockfiles() -> dict[str, Any]:
    """Every lockfile, field by field."""
    return {
        _name(path): Lockfile1.of(read_lockfile(path)).model_dump(mode="json")
        for path in sorted(GOLDEN.glob("*/perfusion.lock"))
    }


def lockfile_again(path: Path, to: Path) -> bytes:
    """A lockfile, read and written again to `to`."""
    write_lockfile(to, read_lockfile(path))
    return to.read_bytes()


def composition(path: Path) -> tuple[dict[str, Any], str]:
    """A composition: its fields, and its text written again."""
    read = read_composition(path)
    return read.model_dump(mode="json"), read.to_json()


def records() -> dict[str, Any]:
    """What every picture says about itself, field by field."""
    paths = sorted((GOLDEN / "pictures").rglob("*.png"))
    return {_name(path): read_metadata(path).model_dump(mode="json") for path in paths}


def record_again(path: Path) -> str:
    """A picture's record, read and written again."""
    return read_metadata(path).to_json()


def sheet_mark(path: Path) -> str | None:
    """The mark of the sheet at `path`."""
    return read_sheet_digest(path)


def sheet_mark_of(pictures: list[Path]) -> str:
    """The mark that a sheet of these pictures has."""
    return sheet_digest([read_metadata(picture) for picture in pictures])


def index(place: Path = GOLDEN) -> dict[str, Any]:
    """Every index of the place's registry: releases field by field, yanks, and what the signatures say."""
    said: dict[str, Any] = {}
    for path in sorted((place / "registry" / "index").glob("*/*.jsonl")):
        read = read_index(path.read_bytes(), path.stem, str(path))
        said[path.stem] = {
            "chain": read.chain,
            "listings": [
                {
                    "release": one.release.model_dump(mode="json"),
                    "yanked": one.yanked,
                    "reason": one.reason,
                    "signed": one.release.signature is not None and is_signature_valid(one.release),
                    "signed bytes": hashlib.sha256(one.release.signed_bytes()).hexdigest(),
                }
                for one in read.listings
            ],
        }
    return said


def index_again(path: Path) -> bytes:
    """An index, made anew event by event."""
    from perfusion_registry.registries.index import Index, IndexLine

    made = Index(path.stem)
    for line in path.read_bytes().splitlines():
        made = made.appended(IndexLine.model_validate_json(line).root)
    return made.data


def covariance() -> dict[str, Any]:
    """The covariance file: its card and its digest."""
    read = load_covariance(GOLDEN / "C.safetensors")
    return {"digest": read.digest, "width": read.width, **read.card.model_dump(mode="json")}


def covariance_again(to: Path) -> bytes:
    """The covariance file, read and written again to `to`."""
    save_covariance(load_covariance(GOLDEN / "C.safetensors"), to)
    return to.read_bytes()


def _name(path: Path) -> str:
    return path.relative_to(GOLDEN).as_posix()
