"""The JSON Schemas of every file format and of every result that is printed, generated from the models.

`python -m perfusion_registry.operations.schemas FOLDER` writes them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import BaseModel, Field, RootModel, create_model

from perfusion_registry.artifact import ConceptCard
from perfusion_registry.artifact.format1 import Card1
from perfusion_registry.compose.composition import Composition
from perfusion_registry.evaluate.results import Results
from perfusion_registry.evaluate.suite import Suite
from perfusion_registry.evaluate.variant import Variant
from perfusion_registry.methods.files import edited_models, recipe_tables, train_section
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.table import shipped_methods
from perfusion_registry.operations.add import AddResult
from perfusion_registry.operations.build import BuildResult
from perfusion_registry.operations.cache import (
    CacheDirResult,
    CachePruneResult,
    CacheSizeResult,
    CacheVerifyResult,
)
from perfusion_registry.operations.concepts import ListResult, RemoveResult
from perfusion_registry.operations.covariance import CovarianceResult, CovarianceShardResult
from perfusion_registry.operations.doctor import DoctorResult
from perfusion_registry.operations.evaluate import (
    EvaluateListResult,
    EvaluatePartResult,
    EvaluatePlanResult,
    EvaluateResult,
)
from perfusion_registry.operations.explain import ExplainResult, PresetsResult
from perfusion_registry.operations.export import ExportResult
from perfusion_registry.operations.import_ import ImportResult
from perfusion_registry.operations.info import InfoResult
from perfusion_registry.operations.init import InitResult
from perfusion_registry.operations.keys import KeyForgetResult, KeyListResult, KeyResult, KeyTrustResult
from perfusion_registry.operations.link import LinkResult
from perfusion_registry.operations.lock import LockResult
from perfusion_registry.operations.merge import MergeDriverResult
from perfusion_registry.operations.metadata import ProjectMetadata
from perfusion_registry.operations.outdated import OutdatedResult
from perfusion_registry.operations.publish import PublishResult, YankResult
from perfusion_registry.operations.rebuild import RebuildResult
from perfusion_registry.operations.render import RenderListResult, RenderResult
from perfusion_registry.operations.search import SearchResult
from perfusion_registry.operations.suggest import SuggestResult
from perfusion_registry.operations.sweep import SweepResult
from perfusion_registry.operations.sync import SyncResult
from perfusion_registry.operations.tree import TreeResult
from perfusion_registry.operations.tune import TuneResult
from perfusion_registry.operations.vendor import VendorResult
from perfusion_registry.operations.verify import VerifyResult
from perfusion_registry.recipe import Lockfile
from perfusion_registry.recipe.lockfile import LockedConcept
from perfusion_registry.recipe.lockfile1 import Lockfile1
from perfusion_registry.recipe.recipe import DEFAULT_METHOD
from perfusion_registry.recipe.schemas import ByMethod, schema_file, schema_text
from perfusion_registry.recipe.writing import replace_text
from perfusion_registry.registries.index import IndexLine
from perfusion_registry.registries.release import Release

AnyResult = (
    InitResult
    | AddResult
    | ImportResult
    | SuggestResult
    | RemoveResult
    | ListResult
    | LockResult
    | SyncResult
    | TreeResult
    | MergeDriverResult
    | ProjectMetadata
    | BuildResult
    | CovarianceResult
    | CovarianceShardResult
    | ExportResult
    | LinkResult
    | ExplainResult
    | PresetsResult
    | RenderResult
    | RenderListResult
    | SweepResult
    | TuneResult
    | SearchResult
    | InfoResult
    | VendorResult
    | OutdatedResult
    | PublishResult
    | YankResult
    | VerifyResult
    | RebuildResult
    | DoctorResult
    | CacheDirResult
    | CacheSizeResult
    | CacheVerifyResult
    | CachePruneResult
    | KeyResult
    | KeyListResult
    | KeyTrustResult
    | KeyForgetResult
    | EvaluateListResult
    | EvaluatePartResult
    | EvaluatePlanResult
    | EvaluateResult
)


class AnyLockfile(RootModel[Lockfile | Lockfile1]):
    """`perfusion.lock`, of version 2 or 1."""


class AnyCard(RootModel[ConceptCard | Card1]):
    """The card in the header of an artifact, of format 2 or 1."""


class Output(RootModel[Annotated[AnyResult, Field(discriminator="schema_")]]):
    """The JSON that a command prints, told apart by its `schema`; that of `perf compose` is a composition and
    has its own. Within one version of a schema, keys are only ever added.
    """


MODELS: dict[str, type[BaseModel]] = {
    **edited_models(),
    "lockfile": AnyLockfile,
    "concept-card": AnyCard,
    "index": IndexLine,
    "composition": Composition,
    "metadata": ProjectMetadata,
    "suite": Suite,
    "evaluation": Results,
    "output": Output,
}
"""The model of each schema, by its name."""

_TOML = ("manifest", "recipe", "pack", "lockfile", "suite")


def _tables(*names: str) -> dict[str, dict[str, type[BaseModel]]]:
    """Tables of cards by name and method, of the methods that come with perf."""
    return {table: {method.name: _table(method, table) for method in shipped_methods()} for table in names}


def _table(method: Method, name: str) -> type[BaseModel]:
    """A table of a method, which may be another one where a concept was imported."""
    own, other = (method.table(name, imported=imported) for imported in (False, True))
    if own is other:
        return own
    either: Any = Union[own, other]  # noqa: UP007
    return create_model(f"{own.__name__}Or{other.__name__}", __base__=RootModel, root=(either, ...))


_BY_METHOD: dict[type[BaseModel], ByMethod] = {
    **recipe_tables(),
    ConceptCard: ByMethod(("method",), _tables("train", "render", "built"), DEFAULT_METHOD),
    LockedConcept: ByMethod(("method",), _tables("render"), DEFAULT_METHOD),
    # A newer perf may add to what a release says.
    Release: ByMethod(("method",), _tables("render"), DEFAULT_METHOD, closed=False),
    Variant: ByMethod(
        ("method",),
        {"train": {m.name: train_section(m.name) for m in shipped_methods() if not m.imports}},
        DEFAULT_METHOD,
        {method.name: tuple(method.drawings) for method in shipped_methods()},
    ),
}


def text_of(name: str) -> str:
    """The JSON Schema of that name, as its file has it."""
    return schema_text(MODELS[name], toml=name in _TOML, by_method=_BY_METHOD)


def write_schemas(folder: Path) -> list[str]:
    """Write every schema into `folder`; the names of those that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    return [name for name in MODELS if replace_text(folder / schema_file(name), text_of(name))]


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
