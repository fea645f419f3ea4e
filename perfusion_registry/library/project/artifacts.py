"""From manifest to artifacts: what a project locks, fetches, builds and checks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.library.arguments import several
from perfusion_registry.library.project.opened import OpenedProject

if TYPE_CHECKING:
    from perfusion_registry.operations.build import BuildResult
    from perfusion_registry.operations.doctor import DoctorResult
    from perfusion_registry.operations.lock import LockResult
    from perfusion_registry.operations.rebuild import RebuildResult
    from perfusion_registry.operations.sync import SyncResult
    from perfusion_registry.operations.verify import VerifyResult


class ProjectArtifacts(OpenedProject):
    """Locking, fetching, building and checking artifacts."""

    def lock(
        self,
        *,
        upgrade: bool | str | Collection[str] = False,
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

        names = upgrade if isinstance(upgrade, bool) else several(upgrade)
        options = LockOptions(upgrade=names, lowest=lowest, check=check, dry_run=dry_run)
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
        shard: str | None = None,
        on: str | None = None,
        shared_store: str | None = None,
        force: bool = False,
        locked: bool = False,
        dry_run: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        offload: Offload | None = None,
    ) -> BuildResult:
        """Train the concepts whose inputs changed, store and lock them; default all of them.

        jobs: how many to train at once, each in a process of its own: so a program needs the usual
        `if __name__ == "__main__"`. shard: "2/8" is the second of eight parts of the concepts, for as many
        machines. on: a Ray cluster, "local" or an address; shared_store: what its machines share, a folder
        or an `s3://` address. force: also what is up to date. locked: raise StaleLockfileError where
        the lockfile would change. device: "auto", "cpu", "cuda" or "mps". dtype: "auto", "float32",
        "float16" or "bfloat16". offload: "model" (or, where nothing is learned, "group") has of the base on a
        GPU only what computes. A build that is interrupted resumes where it was.
        """
        from perfusion_registry.cluster.address import ClusterAddress
        from perfusion_registry.operations.build import BuildOptions, build
        from perfusion_registry.operations.compute import ComputeOptions

        options = BuildOptions(
            names=names,
            jobs=jobs,
            shard=shard,
            force=force,
            locked=locked,
            dry_run=dry_run,
            compute=ComputeOptions(device, dtype, offload=offload),
            cluster=ClusterAddress.read(on, shared_store),
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
        offload: Offload | None = None,
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
        compute = ComputeOptions(device, dtype, offload=offload)
        options = BuildOptions(force=force, dry_run=dry_run, compute=compute)
        return self._run(lambda workspace: build_substitute(workspace, override, options))

    def transfer(
        self,
        base: str,
        *names: str,
        files: str | Path | Sequence[str | Path] = (),
        covariance: str | Path | None = None,
        out: str | Path | None = None,
        dry_run: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        offload: Offload | None = None,
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
            files=tuple(map(Path, several(files))),
            covariance=Path(covariance) if covariance is not None else None,
            out=Path(out) if out is not None else None,
            dry_run=dry_run,
            compute=ComputeOptions(device, dtype, offload=offload),
        )
        return self._run(lambda workspace: transfer(workspace, options))

    def verify(self, *, require_signed: bool = False) -> VerifyResult:
        """Check every locked artifact against its digest, its card and its release; `whole` of the result
        says whether all is well."""
        from perfusion_registry.operations.verify import verify

        return self._run(lambda workspace: verify(workspace, require_signed=require_signed))

    def rebuild(
        self,
        *names: str,
        tolerance: float = 0.02,
        device: str = "auto",
        dtype: str = "auto",
        offload: Offload | None = None,
    ) -> RebuildResult:
        """Build concepts again in an empty store, and compare; neither the store nor the lockfile changes.

        tolerance: how far a tensor may be from the locked one, as a part of its length.
        """
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.rebuild import RebuildOptions, rebuild

        compute = ComputeOptions(device, dtype, offload=offload)
        options = RebuildOptions(names=names, tolerance=tolerance, compute=compute)
        return self._run(lambda workspace: rebuild(workspace, options))

    def doctor(self, *, online: bool = False) -> DoctorResult:
        """Examine Python, torch, store, base, lockfile and artifacts. online: registries too."""
        from perfusion_registry.operations.doctor import doctor

        return self._run(lambda workspace: doctor(workspace, online=online))
