"""Out of the project: concepts as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.base.offload_kinds import Offload
from perfusion_registry.library.project.opened import OpenedProject

if TYPE_CHECKING:
    from perfusion_registry.operations.export import ExportForm, ExportResult
    from perfusion_registry.operations.link import LinkResult


class ProjectExports(OpenedProject):
    """Exporting concepts, and linking exports."""

    def export(
        self,
        name: str,
        form: ExportForm = "lora",
        *,
        base: str | None = None,
        covariance: str | Path | None = None,
        word: str | None = None,
        out: str | Path | None = None,
        force: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        offload: Offload | None = None,
    ) -> ExportResult:
        """Write a concept as files that other programs read, and measure how far they are from it.

        form: "lora" (with the token beside it, where there is one) or "textual-inversion". base: for which
        one; None for the project's. covariance: of that base, where the concept is transferred to it. word:
        that prompts call the token by; None for `perf-NAME`. out: a folder; None for `exports/` of the
        project. force: overwrite other files.
        """
        from perfusion_registry.operations.compute import ComputeOptions
        from perfusion_registry.operations.export import ExportOptions, export

        options = ExportOptions(
            name=name,
            form=form,
            base=base,
            covariance=Path(covariance) if covariance is not None else None,
            word=word,
            out=Path(out) if out is not None else None,
            force=force,
            compute=ComputeOptions(device, dtype, offload=offload),
        )
        return self._run(lambda workspace: export(workspace, options))

    def link(
        self,
        folder: str | Path,
        *,
        source: str | Path | None = None,
        copy: bool = False,
        force: bool = False,
    ) -> LinkResult:
        """Put exports into the folders of ComfyUI, a web UI or SwarmUI.

        folder: the program's. source: of the exports; None for `exports/` of the project. copy: copy the
        files instead of linking to them. force: overwrite other files.
        """
        from perfusion_registry.operations.link import LinkOptions, link

        place = Path(source) if source is not None else None
        options = LinkOptions(folder=Path(folder), source=place, copy=copy, force=force)
        return self._run(lambda workspace: link(workspace, options))
