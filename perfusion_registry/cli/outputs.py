"""What every command prints with `--json`, told apart by its `schema`.

Within one version of a schema, keys are only ever added.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel

from perfusion_registry.cli.description import ProjectMetadata
from perfusion_registry.compose.composition import Composition
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version
from perfusion_registry.registries.release import Release
from perfusion_registry.trust.known import Pin

Schema = Field(alias="schema")


class InitOutput(FileModel):
    """`perf init`."""

    schema_: Literal["perf.init/1"] = Schema
    folder: str
    written: tuple[str, ...]


class AddOutput(FileModel):
    """`perf add`: a recipe with its images, or a constraint and the version that it has at present."""

    schema_: Literal["perf.add/1"] = Schema
    name: Name
    recipe: str | None
    images: tuple[str, ...] = ()
    pictures: int | None = None
    version: str | None = None
    registry: str | None = None
    resolved: Version | None = None


class SuggestedWord(FileModel):
    """A word that may be a supercategory. best_of: the images that no other word fits better."""

    word: str
    similarity: float
    best_of: int
    tokens: int


class SuggestSuperOutput(FileModel):
    """`perf suggest-super`. source: of the words, `storybook`, `wordnet` or a file; considered: how many."""

    schema_: Literal["perf.suggest-super/1"] = Schema
    base: str
    source: str
    images: int
    considered: int
    words: tuple[SuggestedWord, ...]


class RemoveOutput(FileModel):
    """`perf remove`."""

    schema_: Literal["perf.remove/1"] = Schema
    removed: tuple[Name, ...]


class ListedConcept(FileModel):
    """A row of `perf list`."""

    name: Name
    version: str
    supercategory: str
    state: str
    size: int | None
    sha256: Sha256 | None
    source: str


class ListOutput(FileModel):
    """`perf list`."""

    schema_: Literal["perf.list/1"] = Schema
    base: str
    problem: str | None
    concepts: tuple[ListedConcept, ...]


class OutdatedConcept(FileModel):
    """A locked concept that has a newer version. allowed: by the manifest; latest: for this base."""

    name: Name
    locked: Version
    allowed: Version | None
    latest: Version | None
    yanked: bool
    registry: str


class OutdatedOutput(FileModel):
    """`perf list --outdated`."""

    schema_: Literal["perf.list-outdated/1"] = Schema
    concepts: tuple[OutdatedConcept, ...]


class LockOutput(FileModel):
    """`perf lock`; whether it is up to date is not known with --frozen."""

    schema_: Literal["perf.lock/1"] = Schema
    up_to_date: bool | None
    changes: tuple[str, ...]


class SyncOutput(FileModel):
    """`perf sync`."""

    schema_: Literal["perf.sync/1"] = Schema
    fetched: tuple[str, ...]
    present: tuple[Name, ...]
    to_build: tuple[Name, ...]
    changes: tuple[str, ...]


class TreeConcept(FileModel):
    """A locked concept of `perf tree`."""

    name: Name
    version: Version
    kind: Literal["concept", "pack"]
    source: str
    requires: dict[Name, str]


class TreeOutput(FileModel):
    """`perf tree`."""

    schema_: Literal["perf.tree/1"] = Schema
    project: str
    base: str
    roots: tuple[Name, ...]
    concepts: tuple[TreeConcept, ...]


class MergeDriverOutput(FileModel):
    """`perf merge-driver`."""

    schema_: Literal["perf.merge-driver/1"] = Schema
    conflicts: tuple[str, ...]


class NeededConcept(FileModel):
    """A concept that a build would train, and why."""

    name: Name
    reason: str


class BuiltConcept(FileModel):
    """A concept that was built. trained: False where its tensors were there already."""

    name: Name
    version: Version
    reason: str
    trained: bool
    seconds: float
    sha256: Sha256
    size: int
    steps_kept: int
    scores: dict[str, float]


class BuildOutput(FileModel):
    """`perf build`. out: the file that was written instead of the lockfile, with --super."""

    schema_: Literal["perf.build/1"] = Schema
    needed: tuple[NeededConcept, ...]
    built: tuple[BuiltConcept, ...]
    up_to_date: tuple[Name, ...]
    seconds: float
    out: str | None = None


class CovarianceOutput(FileModel):
    """`perf covariance`: where it went, and its card."""

    model_config = ConfigDict(extra="allow")

    schema_: Literal["perf.covariance/1"] = Schema
    file: str
    base: str
    digest: str
    width: int
    condition: float | None
    skipped: int
    seconds: float


class ExplainOutput(FileModel):
    """`perf explain`: a row per token, with its similarity to each concept and how open its gate is."""

    schema_: Literal["perf.explain/1"] = Schema
    prompt: str
    concepts: tuple[dict[str, Any], ...]
    tokens: tuple[dict[str, Any], ...]


class GatePreset(FileModel):
    """A gate preset: its bias under each key lock, and its temperature."""

    name: str
    local_bias: float
    global_bias: float
    temperature: float
    meaning: str


class ExplainPresetsOutput(FileModel):
    """`perf explain --presets`."""

    schema_: Literal["perf.explain-presets/1"] = Schema
    presets: tuple[GatePreset, ...]


class Picture(FileModel):
    """One picture that was drawn."""

    path: str
    seed: int


class RenderOutput(FileModel):
    """`perf render`."""

    schema_: Literal["perf.render/1"] = Schema
    pictures: tuple[Picture, ...]
    sheet: str | None
    composition: Composition


class SweepOutput(FileModel):
    """`perf sweep`."""

    schema_: Literal["perf.sweep/1"] = Schema
    sheet: str
    biases: tuple[float, ...]
    temperatures: tuple[float, ...]
    composition: Composition


class TunedGate(FileModel):
    """What was tried for one concept. residual: left out where it has none."""

    bias: float
    temperature: float
    key_lock: Literal["local", "global", "none"]
    residual: float | None = None


class TuneAttempt(FileModel):
    """Gates that were tried on so many seeds. alike: image similarity by concept; image: their mean."""

    gates: dict[Name, TunedGate]
    seeds: int
    alike: dict[Name, float]
    image: float
    text: float
    harmonic: float


class TuneOutput(FileModel):
    """`perf tune`; before and after are on all seeds. drawn: how many pictures that took."""

    schema_: Literal["perf.tune/1"] = Schema
    prompt: str
    scene: str | None
    written: bool
    drawn: int
    sheet: str | None
    before: TuneAttempt
    after: TuneAttempt
    tried: tuple[TuneAttempt, ...]


class FoundConcept(FileModel):
    """A concept or scene pack of a registry."""

    registry: str
    name: Name
    version: Version
    kind: Literal["concept", "pack"]
    supercategory: str | None
    description: str | None


class ListedVersion(FileModel):
    """A version in a registry."""

    version: Version
    yanked: bool
    reason: str | None


class InfoOutput(FileModel):
    """`perf info`: of a recipe what it says; of a registry's concept also what was built."""

    schema_: Literal["perf.info/1"] = Schema
    name: Name
    registry: str | None
    locked: Version | None
    version: Version
    kind: Literal["concept", "pack"]
    description: str | None
    supercategory: str | None
    licence: str | None
    base_licence: str | None = None
    authors: tuple[str, ...]
    consent: str | None
    requires: dict[Name, str]
    scenes: tuple[str, ...] = ()
    recipe: str | None = None
    base: str | None = None
    family: str | None = None
    covariance: str | None = None
    bias: float | None = None
    temperature: float | None = None
    key_lock: str | None = None
    size: int | None = None
    sha256: Sha256 | None = None
    signed_by: str | None = None
    versions: tuple[ListedVersion, ...]


class VendorOutput(FileModel):
    """`perf vendor`."""

    schema_: Literal["perf.vendor/1"] = Schema
    folder: str
    copied: tuple[str, ...]
    present: tuple[str, ...]


class SearchOutput(FileModel):
    """`perf search`. problems: what kept a registry from answering."""

    schema_: Literal["perf.search/1"] = Schema
    concepts: tuple[FoundConcept, ...]
    problems: tuple[str, ...]


class Published(FileModel):
    """A release. published: False where it was there already, None where nothing was done."""

    release: Release
    published: bool | None


class PublishOutput(FileModel):
    """`perf publish`."""

    schema_: Literal["perf.publish/1"] = Schema
    registry: str
    dry_run: bool
    releases: tuple[Published, ...]


class YankOutput(FileModel):
    """`perf yank`, `perf unyank`. changed: None where nothing was done."""

    schema_: Literal["perf.yank/1", "perf.unyank/1"] = Schema
    registry: str
    name: Name
    version: Version
    changed: bool | None


class CheckedConcept(FileModel):
    """Something that `perf verify` looked at. key: the public key that signed it."""

    name: str
    version: str | None
    source: str | None
    wrong: tuple[str, ...]
    key: str | None


class VerifyOutput(FileModel):
    """`perf verify`."""

    schema_: Literal["perf.verify/1"] = Schema
    whole: bool
    checked: tuple[CheckedConcept, ...]


class RebuiltConcept(FileModel):
    """A concept that was built again. distance: of its farthest tensor, as a part of that one's length."""

    name: Name
    version: Version
    locked: Sha256
    sha256: Sha256
    same_bytes: bool
    distance: float
    wrong: tuple[str, ...]
    processor: str


class RebuildOutput(FileModel):
    """`perf verify --rebuild`."""

    schema_: Literal["perf.verify-rebuild/1"] = Schema
    tolerance: float
    rebuilt: tuple[RebuiltConcept, ...]


class FindingOutput(FileModel):
    """One finding of `perf doctor`."""

    what: str
    state: Literal["ok", "note", "broken"]
    told: str
    hint: str | None


class DoctorOutput(FileModel):
    """`perf doctor`."""

    schema_: Literal["perf.doctor/1"] = Schema
    healthy: bool
    findings: tuple[FindingOutput, ...]


class CacheDirOutput(FileModel):
    """`perf cache dir`."""

    schema_: Literal["perf.cache-dir/1"] = Schema
    path: str


class KindCount(FileModel):
    """The files of one kind in the store, and their bytes."""

    kind: str
    files: int
    size: int


class CacheSizeOutput(FileModel):
    """`perf cache size`."""

    schema_: Literal["perf.cache-size/1"] = Schema
    path: str
    size: int
    kinds: tuple[KindCount, ...]


class DamagedFile(FileModel):
    """A damaged file of the store, and where it is now."""

    path: str
    what: str
    quarantine: str | None


class CacheVerifyOutput(FileModel):
    """`perf cache verify`."""

    schema_: Literal["perf.cache-verify/1"] = Schema
    artifacts: int
    records: int
    damaged: tuple[DamagedFile, ...]


class RemovedFile(FileModel):
    """Something that was, or would be, removed from the store."""

    kind: str
    path: str
    size: int


class CachePruneOutput(FileModel):
    """`perf cache prune`. locked: artifacts that stay because one of `lockfiles` names them."""

    schema_: Literal["perf.cache-prune/1"] = Schema
    dry_run: bool
    removed: tuple[RemovedFile, ...]
    freed: int
    left: int
    locked: int
    lockfiles: tuple[str, ...]


class KeyOutput(FileModel):
    """`perf key new`, `perf key show`."""

    schema_: Literal["perf.key/1"] = Schema
    public: str
    fingerprint: str
    source: str


class KnownKey(Pin):
    """A key that this machine knows."""

    fingerprint: str


class KeyListOutput(FileModel):
    """`perf key list`."""

    schema_: Literal["perf.key-list/1"] = Schema
    path: str
    keys: tuple[KnownKey, ...]


class KeyTrustOutput(Pin):
    """`perf key trust`."""

    schema_: Literal["perf.key-trust/1"] = Schema


class KeyForgetOutput(FileModel):
    """`perf key forget`."""

    schema_: Literal["perf.key-forget/1"] = Schema
    registry: str
    name: Name
    forgotten: bool


class ShippedFigure(FileModel):
    """A figure of a suite."""

    id: str
    title: str


class ShippedSuite(FileModel):
    """A suite that comes with the package."""

    name: str
    title: str
    figures: tuple[ShippedFigure, ...]


class EvaluateListOutput(FileModel):
    """`perf evaluate list`."""

    schema_: Literal["perf.evaluate-list/1"] = Schema
    suites: tuple[ShippedSuite, ...]


class Needed(FileModel):
    """How many of all are still to be made."""

    needed: int
    all: int


class EvaluatePlanOutput(FileModel):
    """`perf evaluate --dry-run`; left_out: figures that cannot be drawn, and why."""

    schema_: Literal["perf.evaluate-plan/1"] = Schema
    builds: Needed
    pictures: Needed
    left_out: dict[str, str]


class EvaluatedFigure(FileModel):
    """A figure that was measured, or why it was not. points: how many operating points it has."""

    id: str
    left_out: str
    points: int


class MeasuredDifference(FileModel):
    """By how much, with its 95 % interval where there is one."""

    value: float
    low: float | None
    high: float | None


class EvaluatedClaim(FileModel):
    """What became of a claim. difference: of what it calls better over the other."""

    figure: str
    text: str
    verdict: Literal["holds", "fails", "open", "unmeasured"]
    difference: MeasuredDifference | None


class EvaluateOutput(FileModel):
    """`perf evaluate`; results and report: their files. pictures: how many were judged."""

    schema_: Literal["perf.evaluate/1"] = Schema
    results: str
    report: str | None
    pictures: int
    figures: tuple[EvaluatedFigure, ...]
    claims: tuple[EvaluatedClaim, ...]


AnyOutput = (
    InitOutput
    | AddOutput
    | SuggestSuperOutput
    | RemoveOutput
    | ListOutput
    | LockOutput
    | SyncOutput
    | TreeOutput
    | MergeDriverOutput
    | ProjectMetadata
    | BuildOutput
    | CovarianceOutput
    | ExplainOutput
    | ExplainPresetsOutput
    | RenderOutput
    | SweepOutput
    | TuneOutput
    | SearchOutput
    | InfoOutput
    | VendorOutput
    | OutdatedOutput
    | PublishOutput
    | YankOutput
    | VerifyOutput
    | RebuildOutput
    | DoctorOutput
    | CacheDirOutput
    | CacheSizeOutput
    | CacheVerifyOutput
    | CachePruneOutput
    | KeyOutput
    | KeyListOutput
    | KeyTrustOutput
    | KeyForgetOutput
    | EvaluateListOutput
    | EvaluatePlanOutput
    | EvaluateOutput
)


class Output(RootModel[Annotated[AnyOutput, Field(discriminator="schema_")]]):
    """The JSON that a command prints; that of `perf compose` is a composition and has its own schema."""
