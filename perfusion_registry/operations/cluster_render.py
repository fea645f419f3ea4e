"""Pictures drawn by several machines (`cluster`): what `render --prompts` does on one, done by any of
them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from perfusion_registry.artifact import Artifact, Store, digest_of, load_artifact
from perfusion_registry.cluster.file_task import FileTask
from perfusion_registry.compose.composition import Composition
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.drawing import Drawn, PlannedJob
from perfusion_registry.operations.given import Given
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.writing import replace_bytes
from perfusion_registry.render.formats import PictureFormat
from perfusion_registry.render.request import RenderRequest
from perfusion_registry.reporter import Reporter
from perfusion_registry.version import __version__

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseDescription
    from perfusion_registry.cluster.address import ClusterAddress


@dataclass(frozen=True)
class PictureDrawer:
    """What a process has loaded to draw. artifacts: the concepts of all tasks, as files or as they are.
    given: the pictures that jobs are drawn from, by the jobs' numbers. kind, quality: of the pictures.
    store: the machine's, where they are."""

    base: BaseDescription
    compute: ComputeOptions
    artifacts: tuple[Path | Artifact, ...]
    given: tuple[Given, ...]
    kind: PictureFormat
    quality: int | None
    store: Store
    reporter: Reporter

    @cached_property
    def _loaded(self) -> Base:
        from perfusion_registry.base import load_base

        compute = self.compute
        with self.reporter.stage(f"Loading {self.base.repo}"):
            return load_base(self.base, compute.device, compute.dtype, offload=compute.offload)

    def draw(self, task: DrawingTask) -> None:
        """Draw the task's pictures into its file, unless that is there."""
        from perfusion_registry.render.draw import render
        from perfusion_registry.render.metadata import picture_bytes

        out = task.path(self.store)
        if out.exists():
            return
        given = self.given[task.job]
        pictures = render(
            self._loaded,
            task.composition,
            task.request,
            {name: self._artifact(number) for name, number in task.artifacts.items()},
            start=given.start,
            controls=given.controls,
            reporter=self.reporter,
        )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for number, drawn in enumerate(pictures):
                data = picture_bytes(drawn.image, drawn.record, self.kind, self.quality)
                archive.writestr(zipfile.ZipInfo(str(number)), data)
        self.store.workspace(task.digest)
        replace_bytes(out, packed.getvalue())

    def _artifact(self, number: int) -> Artifact:
        there = self.artifacts[number]
        return there if isinstance(there, Artifact) else load_artifact(there)


@dataclass(frozen=True)
class DrawingTask(FileTask):
    """A batch of pictures that any machine may draw; a file of them is the result.

    title: the prompt. job: the number of the job that it is of. first: the index of its first picture there.
    artifacts: by the concepts' names, their numbers among those that a `PictureDrawer` has.
    """

    FILE: ClassVar[str] = "pictures.zip"
    title: str
    job: int
    first: int
    composition: Composition
    request: RenderRequest
    artifacts: Mapping[str, int]

    def run(self, worker: PictureDrawer) -> None:
        """Draw."""
        worker.draw(self)

    def unpacked(self, text: str, store: Store) -> list[bytes]:
        """The pictures, as files have them. Raises PerfError where another process has taken them away."""
        pictures = self.drawn(store)
        if pictures is None:
            raise PerfError(
                f"the pictures of `{self.title}` are drawn, and are gone from the store: another perf that "
                "drew them too has ended",
                where=str(self.path(store)),
                hint="run it again",
            )
        return pictures

    def drawn(self, store: Store) -> list[bytes] | None:
        """The pictures; None where a machine does not have them, whole."""
        try:
            with zipfile.ZipFile(self.path(store)) as archive:
                return [archive.read(str(number)) for number in range(len(archive.namelist()))]
        except FileNotFoundError:
            return None
        except (zipfile.BadZipFile, KeyError):
            self.path(store).unlink(missing_ok=True)  # else it would be taken for drawn
            return None


def draw_on(
    cluster: ClusterAddress,
    workspace: Workspace,
    compute: ComputeOptions,
    jobs: Sequence[PlannedJob],
    kind: PictureFormat,
    quality: int | None,
) -> Drawn:
    """Draw jobs of one base on the machines of a cluster, a batch of pictures at a time, and what several
    prompts ask for once.

    compute: of each task, which has one thread unless it says more. kind, quality: of the files.
    """
    from perfusion_registry.base import BaseDescription
    from perfusion_registry.cluster.pool import ClusterPool

    store, base = workspace.store, jobs[0].job.loaded.base.description
    assert isinstance(base, BaseDescription)  # lists are drawn with the base of a project
    artifacts: list[Path | Artifact] = []
    alike: dict[str, list[DrawingTask]] = {}
    for task in _tasks(jobs, compute, kind, quality, store, artifacts):
        alike.setdefault(task.digest, []).append(task)
    each = [tasks[0] for tasks in alike.values()]
    pool = ClusterPool(cluster, store, base, workspace.reporter)
    pool.fetch_done(each)
    left = []
    for task in each:
        if (files := task.drawn(store)) is None:
            left.append(task)
        else:
            yield from _pictures(alike[task.digest], files)
    given = tuple(one.job.given for one in jobs)
    begin = partial(
        PictureDrawer, base, replace(compute, threads=None), tuple(artifacts), given, kind, quality, store
    )
    with closing(pool.run("Drawing", begin, left, compute.device, compute.threads)) as results:
        for task, files in results:
            yield from _pictures(alike[task.digest], files)
    for task in each:
        store.discard_workspace(task.digest)


def _pictures(tasks: Sequence[DrawingTask], files: Sequence[bytes]) -> Drawn:
    """The pictures of tasks that are alike, for each of them."""
    from PIL import Image

    for task in tasks:
        for index, data in enumerate(files, start=task.first):
            yield task.job, index, Image.open(io.BytesIO(data)).convert("RGB"), data


def _tasks(
    jobs: Sequence[PlannedJob],
    compute: ComputeOptions,
    kind: PictureFormat,
    quality: int | None,
    store: Store,
    artifacts: list[Path | Artifact],
) -> Iterator[DrawingTask]:
    """The batches of all jobs. artifacts: takes the concepts that they call, each once."""
    from perfusion_registry.render.draw import batches

    numbers: dict[str, int] = {}
    for number, one in enumerate(jobs):
        job = one.job
        composition, called = job.loaded.composition, {}
        for concept in composition.concepts:
            if concept.sha256 not in numbers:
                numbers[concept.sha256] = len(artifacts)
                there = store.has(concept.sha256)
                artifacts.append(store.path(concept.sha256) if there else job.loaded.artifacts[concept.name])
            called[concept.name] = numbers[concept.sha256]
        first = 0
        for request in batches(job.request):
            told = {
                "what": "pictures",
                "perf": __version__,
                "composition": composition.model_dump(mode="json"),
                "request": request.model_dump(mode="json"),
                "compute": [compute.device, compute.dtype, compute.offload, compute.threads or 1],
                "format": [kind, quality],
            }
            yield DrawingTask(digest_of(told), one.title, number, first, composition, request, called)
            first += len(request.seeds)
