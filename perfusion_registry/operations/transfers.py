"""Concepts as a base of another family has them: each is transferred once, and then in the store."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import digest_of, load_artifact, save_artifact, transfer_key
from perfusion_registry.compose.concept import Concept
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.table import find_method
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.loaded_base import load_base
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.resolve import ProjectFolder, check_encoder
from perfusion_registry.resolve.covariance import CovarianceFile, covariance_file

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.build import Covariance


class Transfers:
    """Transfers to one base, which is loaded when the first concept needs it.

    covariance: its file; None for the project's, where that is its base, or the one that ships with the base.
    loaded: the base, where it is in memory already.
    """

    def __init__(
        self,
        workspace: Workspace,
        project: ProjectFolder,
        base: BaseDescription,
        covariance: Path | None,
        compute: ComputeOptions,
        *,
        loaded: Base | None = None,
    ) -> None:
        self._workspace = workspace
        self._base = base
        self._compute = compute
        self._loaded = loaded
        named = project.manifest.project.covariance
        own = project.root / named if named is not None and is_alike(workspace, project, base) else None
        path = covariance or own or base.covariance
        self._file: CovarianceFile | None = None if path is None else covariance_file(path)
        if self._file is not None:
            check_encoder(self._file, base)

    def fit(self, concept: Concept) -> bool:
        """Whether a concept works on the base as it is."""
        from perfusion_registry.build.transfer import fits

        return fits(concept.artifact.card, self._base, self._file.matrix if self._file else None)

    def check(self, concept: Concept) -> None:
        """Raise PerfError for a concept of which it can be told at once that it cannot be transferred."""
        from perfusion_registry.build.transfer import check_transferable

        if not self.fit(concept):
            check_transferable(concept.artifact.card, self._base)
            self._needed(concept)

    def of(self, concept: Concept) -> Concept:
        """The concept as the base has it: as it is where that works, else transferred.

        Raises PerfError where it cannot be, or there is no covariance and it needs one.
        """
        from perfusion_registry.build.transfer import learned_on, transfer

        store, reporter = self._workspace.store, self._workspace.reporter
        self.check(concept)
        if self.fit(concept):
            return concept
        needed = self._needed(concept)
        digest = digest_of(
            {"transfer": transfer_key(concept.sha256, self._base.digest, needed.digest if needed else None)}
        )
        sha256 = store.lookup(digest)
        if sha256 is None:
            before = learned_on(concept.artifact, self._base.family, self._workspace.root, reporter)
            made = transfer(
                concept.artifact,
                concept.sha256,
                self.base,
                self._matrix if needed else None,
                digest=digest,
                licence=self._base.licence,
                before=before,
            )
            sha256 = store.put(save_artifact(made))
            store.record(digest, sha256)
        return Concept(load_artifact(store.get(sha256)), sha256, concept.locked)

    @cached_property
    def base(self) -> Base:
        """The base, loaded."""
        return load_base(self._workspace, self._base, self._compute, loaded=self._loaded)

    @cached_property
    def _matrix(self) -> Covariance | None:
        from perfusion_registry.build import load_covariance

        return load_covariance(self._file.path) if self._file is not None else None

    def _needed(self, concept: Concept) -> CovarianceFile | None:
        """The covariance that the concept needs; None for a method without."""
        name, method = concept.name, find_method(concept.artifact.card.method)
        if method.needs_covariance and self._file is None:
            repo = self._base.repo
            raise PerfError(
                f"`{name}` needs a covariance of the base that it is transferred to, and {repo} has none",
                hint=f"run `perf covariance CAPTIONS --base {repo} --out FILE`, then give it: "
                "--covariance FILE",
            )
        return self._file if method.needs_covariance else None


def is_own(workspace: Workspace, project: ProjectFolder, base: BaseDescription) -> bool:
    """Whether a base is the project's own."""
    own = _own(workspace, project)
    return own is not None and own.digest == base.digest


def is_alike(workspace: Workspace, project: ProjectFolder, base: BaseDescription) -> bool:
    """Whether a base is of the family of the project's own, and so has the same text encoders."""
    own = _own(workspace, project)
    return own is not None and own.family == base.family


def _own(workspace: Workspace, project: ProjectFolder) -> BaseDescription | None:
    try:
        return workspace.base(project, download=False)
    except PerfError:  # it is not here
        return None
