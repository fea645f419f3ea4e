"""What a project draws, and how that is measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.library.arguments import several
from perfusion_registry.library.project.opened import OpenedProject

if TYPE_CHECKING:
    from perfusion_registry.library.composer import Composer
    from perfusion_registry.operations.evaluate import EvaluateResult


class ProjectPictures(OpenedProject):
    """Loading the base that draws, and measuring what it draws."""

    def composer(
        self,
        *,
        locked: bool = False,
        frozen: bool = False,
        base: str | None = None,
        covariance: str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        offload: Offload | None = None,
    ) -> Composer:
        """Load the project's base, to compose prompts and draw them; it takes seconds and is worth keeping.

        base: what to draw on instead, as a manifest names it: concepts of another family are transferred to
        it. covariance: of that base, where none ships with it.

        locked: for each prompt, raise CheckFailedError where the lockfile would change, or the base is not
        the locked one. frozen: take the lockfile as it is, without a warning. device, dtype, offload: as in
        `build`; "group" is enough for pictures.
        """
        from perfusion_registry.library.composer import Composer
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.loaded_base import load_base

        with self.workspace() as workspace:
            description = workspace.base(workspace.read()) if base is None else workspace.base_named(base)
            loaded = load_base(workspace, description, ComputeOptions(device, dtype, offload=offload))
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
        figures: str | Collection[str] = (),
        out: str | Path | None = None,
        jobs: int = 1,
        budget: Mapping[str, int] | None = None,
        bases: Mapping[str, str] | None = None,
        dino: str | Path | None = None,
        methods: str | Collection[str] = (),
        merge: str | Path | Collection[str | Path] = (),
        report: bool = True,
        device: str = "auto",
        dtype: str = "auto",
        offload: Offload | None = None,
        on: str | None = None,
        shared_store: str | None = None,
    ) -> EvaluateResult:
        """Measure concepts and methods by a suite of figures, and write a report.

        suite: "paper", "rivals", or a suite's file. figures: ids; none means all. out: a folder; None for
        `out/SUITE` of the working directory. budget: how many at most of `concepts`, `prompts`, `seeds`,
        `steps`, `train_steps`, `trainings` and `settings`. methods: by which alone concepts are learned;
        none means all. merge: caches of other machines, from which what they have done is taken. bases:
        for the suite's slots. dino: a folder with a DINO model, for similarity by it as well. on,
        shared_store: machines that build, draw and judge, as in `build`. What is made already is not made
        again.
        """
        from perfusion_registry.cluster.address import ClusterAddress
        from perfusion_registry.evaluate.budget import Budget
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.evaluate import EvaluateOptions, evaluate
        from perfusion_registry.recipe.document import validate

        said = dict(budget or {}) | ({"methods": [*several(methods)]} if methods else {})
        limits = validate(said, Budget, text="", where="budget", kind="budget")
        options = EvaluateOptions(
            suite=str(suite),
            figures=several(figures),
            out=Path(out) if out is not None else None,
            jobs=jobs,
            budget=limits,
            bases=dict(bases or {}),
            dino=Path(dino) if dino is not None else None,
            report=report,
            compute=ComputeOptions(device, dtype, offload=offload),
            cluster=ClusterAddress.read(on, shared_store),
            merge=tuple(map(Path, several(merge))),
        )
        return self._run(lambda workspace: evaluate(workspace, options))
