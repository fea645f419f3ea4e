"""What a project gives to registries, and what it finds there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.library.arguments import several
from perfusion_registry.library.project.opened import OpenedProject

if TYPE_CHECKING:
    from perfusion_registry.operations.info import InfoResult
    from perfusion_registry.operations.publish import PublishResult, YankResult
    from perfusion_registry.operations.search import SearchResult
    from perfusion_registry.operations.vendor import VendorResult


class ProjectRegistries(OpenedProject):
    """Publishing to registries, and finding what is there."""

    def publish(
        self,
        *names: str,
        registry: str | None = None,
        sign: bool = False,
        licence: str | None = None,
        authors: str | Sequence[str] = (),
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
            authors=several(authors),
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
        one, else the newest. preview: a file to save its preview picture to;
        force overwrites another one there.
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
