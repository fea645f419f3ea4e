"""A project in a program: every method is an operation of the package manager, as the commands call it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.library.composer import Composer
    from perfusion_registry.operations.add import AddResult
    from perfusion_registry.operations.build import BuildResult
    from perfusion_registry.operations.concepts import ListResult, RemoveResult
    from perfusion_registry.operations.doctor import DoctorResult
    from perfusion_registry.operations.evaluate import EvaluateResult
    from perfusion_registry.operations.import_ import ImportResult
    from perfusion_registry.operations.info import InfoResult
    from perfusion_registry.operations.lock import LockResult
    from perfusion_registry.operations.metadata import ProjectMetadata
    from perfusion_registry.operations.outdated import OutdatedResult
    from perfusion_registry.operations.publish import PublishResult, YankResult
    from perfusion_registry.operations.rebuild import RebuildResult
    from perfusion_registry.operations.search import SearchResult
    from perfusion_registry.operations.suggest import SuggestResult
    from perfusion_registry.operations.sync import SyncResult
    from perfusion_registry.operations.tree import TreeResult
    from perfusion_registry.operations.vendor import VendorResult
    from perfusion_registry.operations.verify import VerifyResult

R = TypeVar("R")


class Project:
    """A project, from `open`, `create` or `sync_lockfile`.

    Each method is one operation and returns its result, a frozen model whose `printed()` is what the command
    of the same name prints with `--json`. All raise PerfError, which says what to do next. Threads may share
    a project as far as they may share its files.
    """

    def __init__(self, folder: Path, store: Path | None, offline: bool, reporter: Reporter) -> None:
        self._folder = folder
        self._store = store
        self._offline = offline
        self._reporter = reporter

    def __repr__(self) -> str:
        return f"Project({str(self.root)!r})"

    def workspace(self) -> Workspace:
        """An opened workspace, for functions of `perfusion_registry.operations`; a context manager."""
        return Workspace.open(
            self._folder,
            store=self._store,
            offline=self._offline,
            reporter=self._reporter,
            lockfile_alone=True,
        )

    def _run(self, operation: Callable[[Workspace], R]) -> R:
        with self.workspace() as workspace:
            return operation(workspace)

    @property
    def root(self) -> Path:
        """The folder of the manifest, or of the lockfile where there is no manifest."""
        with self.workspace() as workspace:
            return workspace.manifest_path.parent

    # Concepts

    def add(
        self,
        name: str,
        supercategory: str,
        images: Collection[str | Path] = (),
        *,
        copy: bool = False,
        version: str = "1.0.0",
        bias: float | None = None,
        temperature: float | None = None,
        steps: int | None = None,
        seed: int | None = None,
        flip: bool | None = None,
        method: str = "perfusion",
        options: Mapping[str, Any] | None = None,
    ) -> AddResult:
        """Write a recipe for a concept of your own, and its entry in the manifest.

        supercategory: a plain word that the base knows. images: files or patterns from the working directory;
        none means the folder beside the recipe that is called like the concept. copy: copy them there first.
        bias, temperature: of its gate in prompts. method: how it is learned and drawn. options: any others of
        the method, by key, or by table and key where `[train]` and `[render]` have it (`train.bias`). Of all
        these what is None is left to the base's card.
        """
        from perfusion_registry.operations.add import AddOptions, add

        wished = AddOptions(
            name=name,
            supercategory=supercategory,
            images=tuple(map(str, images)),
            copy=copy,
            version=version,
            bias=bias,
            temperature=temperature,
            steps=steps,
            seed=seed,
            flip=flip,
            method=method,
            options=options or {},
        )
        return self._run(lambda workspace: add(workspace, wished))

    def add_release(self, name: str, version: str | None = None, *, registry: str | None = None) -> AddResult:
        """Write a concept of a registry into the manifest.

        name: "teddy", or "studio/teddy" to name the registry too. version: a constraint, such as ">=1.2,<2";
        None for the newest that fits, up to the next major one. registry: its name in the manifest; or its
        address, which is written there under the name before the slash.
        """
        from perfusion_registry.operations.add_release import AddReleaseOptions, add_release

        options = AddReleaseOptions(name=name, version=version, registry=registry)
        return self._run(lambda workspace: add_release(workspace, options))

    def import_file(
        self,
        file: str | Path,
        name: str,
        supercategory: str | None = None,
        *,
        word: str | None = None,
        version: str = "1.0.0",
        strength: float | None = None,
    ) -> ImportResult:
        """Make a concept of a LoRA that somebody has, and lock it; its recipe names the file by path and
        hash.

        file: a safetensors file, or peft's folder. supercategory: the plain word that it is a kind of; None
        for a style. word: what a call becomes; None for what the file says of itself, else the supercategory.
        strength: in prompts that say none.
        """
        from perfusion_registry.operations.import_ import ImportOptions, import_

        options = ImportOptions(
            file=Path(file),
            name=name,
            supercategory=supercategory,
            word=word,
            version=version,
            strength=strength,
        )
        return self._run(lambda workspace: import_(workspace, options))

    def remove(self, *names: str) -> RemoveResult:
        """Take concepts out of manifest and lockfile; their recipes stay."""
        from perfusion_registry.operations.concepts import remove

        return self._run(lambda workspace: remove(workspace, names))

    def concepts(self) -> ListResult:
        """The project's concepts, and what a build or a sync would do with each."""
        from perfusion_registry.operations.concepts import list_concepts

        return self._run(list_concepts)

    def outdated(self) -> OutdatedResult:
        """The locked concepts of which a registry has a newer version, or that are yanked."""
        from perfusion_registry.operations.outdated import outdated

        return self._run(outdated)

    def tree(self) -> TreeResult:
        """What is locked, and what each of it requires."""
        from perfusion_registry.operations.tree import tree

        return self._run(tree)

    def metadata(self) -> ProjectMetadata:
        """Everything that is declared and locked, as one document for other programs."""
        from perfusion_registry.operations.metadata import metadata

        return self._run(metadata)

    def suggest(
        self,
        images: Collection[str | Path],
        *,
        base: str | None = None,
        words: str | Path | None = None,
        any_length: bool = False,
        limit: int = 10,
        device: str = "auto",
    ) -> SuggestResult:
        """Rank supercategories by how well they describe images; the judge is the base's CLIP model.

        base: None for the project's. words: a file of words to try, one a line; None for the base's own.
        any_length: also words of several tokens.
        """
        from perfusion_registry.operations.suggest import SuggestOptions, suggest

        options = SuggestOptions(
            images=tuple(map(str, images)),
            base=base,
            words=Path(words) if words else None,
            any_length=any_length,
            limit=limit,
            device=device,
        )
        return self._run(lambda workspace: suggest(workspace, options))

    # From manifest to artifacts

    def lock(
        self,
        *,
        upgrade: bool | Collection[str] = False,
        lowest: bool = False,
        check: bool = False,
        dry_run: bool = False,
    ) -> LockResult:
        """Pin base, covariance and concepts to exact bytes, in `perfusion.lock`.

        upgrade: the names, or all, that may leave their locked versions. lowest: take the oldest versions
        that the constraints let in. check: write nothing, ask no registry; `up_to_date` of the result says
        whether there is nothing to do.
        """
        from perfusion_registry.operations.lock import LockOptions, lock

        options = LockOptions(upgrade=upgrade, lowest=lowest, check=check, dry_run=dry_run)
        return self._run(lambda workspace: lock(workspace, options))

    def sync(
        self,
        *,
        build: bool = False,
        locked: bool = False,
        frozen: bool = False,
        require_signed: bool = False,
        dry_run: bool = False,
    ) -> SyncResult:
        """Fetch what the lockfile names and the store has not; lock first what is not locked.

        build: also build what only a recipe can make. locked: raise StaleLockfileError where the lockfile
        would change. frozen: take it as it is. require_signed: refuse what nobody signed.
        """
        from perfusion_registry.operations.sync import SyncOptions, sync

        options = SyncOptions(
            build=build, locked=locked, frozen=frozen, require_signed=require_signed, dry_run=dry_run
        )
        return self._run(lambda workspace: sync(workspace, options))

    def build(
        self,
        *names: str,
        jobs: int = 1,
        force: bool = False,
        locked: bool = False,
        dry_run: bool = False,
        device: str = "auto",
        dtype: str = "auto",
    ) -> BuildResult:
        """Train the concepts whose inputs changed, store and lock them; default all of them.

        jobs: how many to train at once, each in a process of its own: so a program needs the usual
        `if __name__ == "__main__"`. force: also what is up to date. locked: raise StaleLockfileError where
        the lockfile would change. device: "auto", "cpu", "cuda" or "mps". dtype: "auto", "float32",
        "float16" or "bfloat16". A build that is interrupted resumes where it was.
        """
        from perfusion_registry.operations.build import BuildOptions, build
        from perfusion_registry.operations.compute import ComputeOptions

        options = BuildOptions(
            names=names,
            jobs=jobs,
            force=force,
            locked=locked,
            dry_run=dry_run,
            compute=ComputeOptions(device, dtype),
        )
        return self._run(lambda workspace: build(workspace, options))

    def build_as(
        self,
        name: str,
        supercategory: str,
        out: str | Path,
        *,
        force: bool = False,
        dry_run: bool = False,
        device: str = "auto",
        dtype: str = "auto",
    ) -> BuildResult:
        """Build a concept under another supercategory than its recipe's, into an artifact's file (`--super`).

        out: a `.safetensors` file, which a composer takes among its `files`. Recipe and lockfile stay as they
        are. The rest as in `build`.
        """
        from perfusion_registry.operations.build import BuildOptions
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.substitute import SupercategoryOverride, build_substitute
        from perfusion_registry.recipe import canonical_name

        override = SupercategoryOverride(canonical_name(name.removesuffix("*")), supercategory, Path(out))
        options = BuildOptions(force=force, dry_run=dry_run, compute=ComputeOptions(device, dtype))
        return self._run(lambda workspace: build_substitute(workspace, override, options))

    def transfer(
        self,
        base: str,
        *names: str,
        files: Sequence[str | Path] = (),
        covariance: str | Path | None = None,
        out: str | Path | None = None,
        dry_run: bool = False,
        device: str = "auto",
        dtype: str = "auto",
    ) -> BuildResult:
        """Transfer concepts that were learned on another base to this one, without training (`--for`);
        default all of them.

        base: as a manifest names it. Where it is the project's, what is transferred is locked; of another the
        store has it. files: artifacts to transfer instead of what is locked. covariance: of a base that is
        not the project's, where none ships with it. out: a file for the one concept. The rest as in `build`.
        """
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.transfer import TransferOptions, transfer

        options = TransferOptions(
            base=base,
            names=names,
            files=tuple(Path(file) for file in files),
            covariance=Path(covariance) if covariance is not None else None,
            out=Path(out) if out is not None else None,
            dry_run=dry_run,
            compute=ComputeOptions(device, dtype),
        )
        return self._run(lambda workspace: transfer(workspace, options))

    def verify(self, *, require_signed: bool = False) -> VerifyResult:
        """Check every locked artifact against its digest, its card and its release; `whole` of the result
        says whether all is well."""
        from perfusion_registry.operations.verify import verify

        return self._run(lambda workspace: verify(workspace, require_signed=require_signed))

    def rebuild(
        self, *names: str, tolerance: float = 0.02, device: str = "auto", dtype: str = "auto"
    ) -> RebuildResult:
        """Build concepts again in an empty store, and compare; neither the store nor the lockfile changes.

        tolerance: how far a tensor may be from the locked one, as a part of its length.
        """
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.rebuild import RebuildOptions, rebuild

        options = RebuildOptions(names=names, tolerance=tolerance, compute=ComputeOptions(device, dtype))
        return self._run(lambda workspace: rebuild(workspace, options))

    def doctor(self, *, online: bool = False) -> DoctorResult:
        """Examine Python, torch, store, base, lockfile and artifacts. online: registries too."""
        from perfusion_registry.operations.doctor import doctor

        return self._run(lambda workspace: doctor(workspace, online=online))

    # Registries

    def publish(
        self,
        *names: str,
        registry: str | None = None,
        sign: bool = False,
        licence: str | None = None,
        authors: Sequence[str] = (),
        description: str | None = None,
        consent: str | None = None,
        preview: str | Path | None = None,
        dry_run: bool = False,
    ) -> PublishResult:
        """Publish built concepts and scene packs: the very bytes that are locked.

        registry: its name in the manifest or its address; None for the one called `default`, or the only
        one. sign: with the key of this machine. licence, authors, description, consent (who agreed to be
        shown) and preview (a picture): written into the recipes first; what is not said stays as it is
        there. A published version never changes.
        """
        from perfusion_registry.operations.publish import PublishOptions, publish
        from perfusion_registry.operations.release_facts import ReleaseFacts

        facts = ReleaseFacts(
            licence=licence,
            authors=tuple(authors),
            description=description,
            consent=consent,
            preview=Path(preview) if preview is not None else None,
        )
        options = PublishOptions(names=names, registry=registry, sign=sign, dry_run=dry_run, facts=facts)
        return self._run(lambda workspace: publish(workspace, options))

    def yank(
        self,
        name: str,
        version: str,
        *,
        registry: str | None = None,
        reason: str = "",
        dry_run: bool = False,
    ) -> YankResult:
        """Hide a published version from new locks; those that have it still work."""
        from perfusion_registry.operations.publish import yank

        return self._run(
            lambda workspace: yank(
                workspace, name, version, registry=registry, reason=reason, dry_run=dry_run
            )
        )

    def unyank(
        self, name: str, version: str, *, registry: str | None = None, dry_run: bool = False
    ) -> YankResult:
        """Show a yanked version again."""
        from perfusion_registry.operations.publish import unyank

        return self._run(
            lambda workspace: unyank(workspace, name, version, registry=registry, dry_run=dry_run)
        )

    def search(self, *words: str, registry: str | None = None) -> SearchResult:
        """Find what has all the words in its name, supercategory or description."""
        from perfusion_registry.operations.search import search

        return self._run(lambda workspace: search(workspace, words, registry=registry))

    def info(
        self,
        name: str,
        *,
        version: str | None = None,
        registry: str | None = None,
        preview: str | Path | None = None,
        force: bool = False,
    ) -> InfoResult:
        """What a concept says of itself, and which versions there are.

        name: "teddy", or "studio/teddy==1.2.0" to say registry and version too. version: default the locked
        one, else the newest. preview: a file to save its preview picture to; force overwrites another one
        there.
        """
        from perfusion_registry.operations.info import info

        file = Path(preview) if preview is not None else None
        return self._run(
            lambda workspace: info(
                workspace, name, version=version, registry=registry, preview=file, force=force
            )
        )

    def vendor(self, folder: str | Path) -> VendorResult:
        """Make a folder a registry of all that the lockfile names, with a lockfile of its own."""
        from perfusion_registry.operations.vendor import vendor

        return self._run(lambda workspace: vendor(workspace, Path(folder)))

    # Pictures

    def composer(
        self,
        *,
        locked: bool = False,
        frozen: bool = False,
        base: str | None = None,
        covariance: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Composer:
        """Load the project's base, to compose prompts and draw them; it takes seconds and is worth keeping.

        base: what to draw on instead, as a manifest names it: concepts of another family are transferred to
        it. covariance: of that base, where none ships with it.

        locked: for each prompt, raise CheckFailedError where the lockfile would change, or the base is not
        the locked one. frozen: take the lockfile as it is, without a warning. device, dtype: as in `build`.
        """
        from perfusion_registry.library.composer import Composer
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.loaded_base import load_base

        with self.workspace() as workspace:
            description = workspace.base(workspace.read()) if base is None else workspace.base_named(base)
            loaded = load_base(workspace, description, ComputeOptions(device, dtype))
        return Composer(
            self.workspace,
            loaded,
            locked=locked,
            frozen=frozen,
            another=base,
            covariance=Path(covariance) if covariance is not None else None,
        )

    def evaluate(
        self,
        suite: str | Path,
        *,
        figures: Collection[str] = (),
        out: str | Path | None = None,
        jobs: int = 1,
        budget: Mapping[str, int] | None = None,
        bases: Mapping[str, str] | None = None,
        dino: str | Path | None = None,
        report: bool = True,
        device: str = "auto",
        dtype: str = "auto",
    ) -> EvaluateResult:
        """Measure concepts and methods by a suite of figures, and write a report.

        suite: "paper", or a suite's file. figures: ids; none means all. out: a folder; None for `out/SUITE`
        of the working directory. budget: how many at most of `concepts`, `prompts`, `seeds`, `steps` and
        `train_steps`. bases: for the suite's slots. dino: a folder with a DINO model, for similarity by it as
        well. What is made already is not made again.
        """
        from perfusion_registry.evaluate.budget import Budget
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.evaluate import EvaluateOptions, evaluate
        from perfusion_registry.recipe.document import validate

        limits = validate(dict(budget or {}), Budget, text="", where="budget", kind="budget")
        options = EvaluateOptions(
            suite=str(suite),
            figures=tuple(figures),
            out=Path(out) if out is not None else None,
            jobs=jobs,
            budget=limits,
            bases=dict(bases or {}),
            dino=Path(dino) if dino is not None else None,
            report=report,
            compute=ComputeOptions(device, dtype),
        )
        return self._run(lambda workspace: evaluate(workspace, options))
