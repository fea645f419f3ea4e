"""Results: values in Python, JSON outside, and operations that print nothing."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
from pydantic import BaseModel, RootModel, ValidationError

import perfusion_registry.operations
from perfusion_registry.operations.lock import LockOptions, NoLockfileError, lock
from perfusion_registry.operations.result import Result
from perfusion_registry.operations.schemas import MODELS
from perfusion_registry.operations.sync import SyncOptions, sync
from perfusion_registry.operations.tree import tree
from perfusion_registry.operations.workspace import Workspace


def operations() -> list[object]:
    """Every public function and class of the operations."""
    found: list[object] = []
    for module in pkgutil.iter_modules(perfusion_registry.operations.__path__):
        loaded = importlib.import_module(f"perfusion_registry.operations.{module.name}")
        mine = [
            value for value in vars(loaded).values() if getattr(value, "__module__", "") == loaded.__name__
        ]
        found += [value for value in mine if not value.__name__.startswith("_")]
    return found


def test_every_result_is_in_the_schemas() -> None:
    results = [model for model in Result.__subclasses__() if "schema_" in model.model_fields]
    assert len(results) > 30
    named = {name for model in results for name in get_args(model.model_fields["schema_"].annotation)}
    described = MODELS["output"].model_json_schema()["discriminator"]["mapping"]
    assert named == set(described)


def test_options_and_results_are_frozen() -> None:
    for value in operations():
        if not inspect.isclass(value):
            continue
        if issubclass(value, RootModel):
            continue
        if issubclass(value, BaseModel):
            assert value.model_config.get("frozen"), value
        elif value.__name__.endswith("Options"):
            assert value.__dataclass_params__.frozen, value  # type: ignore[attr-defined]


def test_a_project_is_locked_and_synced_from_python_without_a_word(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Workspace.open(project) as workspace:
        with pytest.raises(NoLockfileError):
            lock(workspace, LockOptions(frozen=True))
        first = lock(workspace, LockOptions(dry_run=True))
        assert (first.up_to_date, first.path.exists()) == (False, False)
        assert lock(workspace, LockOptions()).changes == first.changes
        again = lock(workspace, LockOptions())
        assert (again.up_to_date, again.changes, again.lockfile) == (True, (), first.lockfile)
        synced = sync(workspace, SyncOptions())
        assert (synced.fetched, synced.present, synced.to_build) == ((), (), ("bear",))
        assert [row.name for row in tree(workspace).concepts] == ["bear"]
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValidationError, match="frozen"):
        first.changes = ()  # type: ignore[misc]
    printed = first.printed()
    assert list(printed) == ["schema", "up_to_date", "changes"]
    described = MODELS["output"].model_json_schema()
    jsonschema.Draft202012Validator(described).validate(printed)
