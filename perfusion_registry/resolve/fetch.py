"""Fetching what a lockfile names from its registries into the store, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

from perfusion_registry.artifact import Store, read_card
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import LockedConcept
from perfusion_registry.recipe.name import parsed_version
from perfusion_registry.registries.download import download, fetch_preview
from perfusion_registry.registries.registry import Registry
from perfusion_registry.registries.release import Release
from perfusion_registry.reporter import Reporter, Silent, Stage
from perfusion_registry.resolve.choice import check_bytes
from perfusion_registry.resolve.sources import Sources

_AT_ONCE = 8  # downloads

Approval = Callable[[Registry, Release], None]


def fetch(
    blocks: Sequence[LockedConcept],
    store: Store,
    sources: Sources,
    *,
    approve: Approval | None = None,
    reporter: Reporter | None = None,
    previews: bool = False,
) -> None:
    """Have the bytes of every block in the store, from the registry that it is locked from.

    approve: asked of every release before its bytes are fetched; it raises PerfError to refuse. previews:
    fetch the preview of each as well. Raises PerfError where a registry has a locked version no longer, or
    with other bytes: those are never taken.
    """
    reporter = reporter or Silent()
    sources.prepare((block.registry, block.name) for block in blocks if block.registry is not None)
    releases = [locked_release(block, sources) for block in blocks]
    for registry, release in releases:
        if approve is not None:
            approve(registry, release)
    with reporter.stage("Fetching", len(releases)) as stage, ThreadPoolExecutor(_AT_ONCE) as pool:
        quiet = _WordsOnly(reporter)
        work = {
            pool.submit(_fetch, registry, release, store, quiet, previews): release
            for registry, release in releases
        }
        try:
            for done in as_completed(work):
                done.result()
                stage.advance(1, work[done].name)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def locked_release(block: LockedConcept, sources: Sources) -> tuple[Registry, Release]:
    """The release that a block is locked to, and its registry.

    Raises PerfError where the registry has the version no longer, or with other bytes, or tells of it in a
    format that this perf cannot read.
    """
    assert block.registry is not None
    wanted = parsed_version(block.version)
    for listing in sources.listings(block.registry, block.name):
        if parsed_version(listing.version) == wanted:
            check_bytes(listing.release, block, sources.called(block.registry))
            if (hindrance := listing.release.hindrance) is not None:
                raise PerfError(
                    f"`{block.name}` {block.version} is not for this perf: {hindrance}",
                    where=block.source,
                    hint="upgrade perf (`pip install -U perfusion-registry`)",
                )
            return sources.registry(block.registry), listing.release
    raise PerfError(
        f"`{sources.called(block.registry)}` has no {block.name} {block.version}, which is locked",
        where=block.source,
        hint="ask its keeper why: nothing published may vanish; "
        f"`perf lock --upgrade-package {block.name}` takes another version",
    )


def _fetch(registry: Registry, release: Release, store: Store, reporter: Reporter, previews: bool) -> None:
    download(registry, release, store, reporter)
    if previews:
        fetch_preview(registry, release, store, reporter)
    if release.kind == "concept":
        card = read_card(store.path(release.sha256))
        stated, listed = (card.name, card.version), (release.name, release.version)
        if stated != listed or (card.family, card.covariance) != (release.family, release.covariance):
            raise PerfError(
                f"the bytes of {release.name} {release.version} say that they are {card.name} {card.version} "
                "or are of another base than the registry says",
                where=registry.url,
                hint="tell the registry's keeper",
            )


class _WordsOnly:
    """Passes on what is said; downloads run at once, and their stages would be drawn over each other."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    @contextmanager
    def stage(self, title: str, total: int | None = None, then: float = 0.0) -> Iterator[Stage]:
        with Silent().stage(title, total) as stage:
            yield stage

    def note(self, text: str) -> None:
        self._reporter.note(text)

    def warn(self, text: str) -> None:
        self._reporter.warn(text)
