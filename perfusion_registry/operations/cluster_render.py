"""Pictures drawn by several machines (`cluster`): what `render --prompts` does on one, done by any of
them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact, Store, load_artifact
from perfusion_registry.compose.composition import Composition
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
    from perfusion_registry.cluster.shared_store import SharedStore

_PICTURES = "pictures.zip"


@dataclass(frozen=True)
class PictureDrawer:
    """What a process has loaded to draw. artifacts: the concepts of all tasks, as files or as they are.
    kind, quality: of the pictures. store: the machine's, where they are."""

    base: BaseDescription
    compute: ComputeOptions
    artifacts: tuple[Path | Artifact, ...]
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
        pictures = render(
            self._loaded,
            task.composition,
            task.request,
            {name: self._artifact(number) for name, number in task.artifacts.items()},
            start=task.given.start,
            controls=task.given.controls,
            reporter=self.reporter,
        )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for number, drawn in enumerate(pictures):
                data = picture_bytes(drawn.image, drawn.record, self.kind, self.quality)
                archive.writestr(zipfile.ZipInfo(str(number)), data)
        replace_bytes(out, packed.getvalue())

    def _artifact(self, number: int) -> Artifact:
        there = self.artifacts[number]
        return there if isinstance(there, Artifact) else load_artifact(there)


@dataclass(frozen=True)
class DrawingTask:
    """A batch of pictures that any machine may draw; a file of them is the result.

    title: the prompt. job: the number of the job that it is of. first: the index of its first picture there.
    artifacts: by the concepts' names, their numbers among those that a `PictureDrawer` has.
    """

    title: str
    job: int
    first: int
    composition: Composition
    request: RenderRequest
    given: Given
    artifacts: Mapping[str, int]
    digest: str

    @property
    def checkpoints(self) -> str:
        """The digest of all that decides about the pictures."""
        return self.digest

    def path(self, store: Store) -> Path:
        """Where a machine has the pictures, or would have them."""
        return store.workspace(self.digest) / _PICTURES

    def steps(self, checkpoint: Path | bytes) -> int:
        """Pictures have no checkpoints."""
        return 0

    def fetch(self, shared: SharedStore, store: Store) -> bool:
        """Bring the pictures here, unless they are."""
        path = self.path(store)
        return path.exists() or shared.fetch_result(self.digest, path)

    def give(self, shared: SharedStore, store: Store) -> bool:
        """Share the pictures. Those of a machine that was faster take their place."""
        given = shared.give_result(self.digest, self.path(store))
        if not given:
            self.path(store).unlink()
        return given

    def run(self, worker: PictureDrawer) -> None:
        """Draw."""
        worker.draw(self)

    def packed(self, result: None) -> str:
        """Nothing: the file says it."""
        return ""

    def unpacked(self, text: str, store: Store) -> list[bytes]:
        """The pictures, as files have them."""
        with zipfile.ZipFile(self.path(store)) as archive:
            return [archive.read(str(number)) for number in range(len(archive.namelist()))]


def draw_on(
    cluster: ClusterAddress,
    workspace: Workspace,
    compute: ComputeOptions,
    jobs: Sequence[PlannedJob],
    kind: PictureFormat,
    quality: int | None,
) -> Drawn:
    """Draw jobs of one base on the machines of a cluster, a batch of pictures at a time.

    compute: of each task, which has one thread unless it says more. kind, quality: of the files.
    """
    from PIL import Image

    from perfusion_registry.base import BaseDescription
    from perfusion_registry.cluster.pool import ClusterPool

    store, base = workspace.store, jobs[0].job.loaded.base.description
    assert isinstance(base, BaseDescription)  # lists are drawn with the base of a project
    artifacts: list[Path | Artifact] = []
    tasks = _tasks(jobs, compute, kind, quality, store, artifacts)
    pool = ClusterPool(cluster, store, base, workspace.reporter)
    pool.fetch_done(tasks)
    left = [task for task in tasks if not task.path(store).exists()]
    there = ((task, task.unpacked("", store)) for task in tasks if task not in left)
    begin = partial(
        PictureDrawer, base, replace(compute, threads=None), tuple(artifacts), kind, quality, store
    )
    with closing(pool.run("Drawing", begin, left, compute.device, compute.threads)) as drawn:
        for task, files in chain(there, drawn):
            for index, data in enumerate(files, start=task.first):
                yield task.job, index, Image.open(io.BytesIO(data)).convert("RGB"), data
    for task in tasks:  # of two that are alike, both are drawn from one file
        store.discard_workspace(task.digest)


def _tasks(
    jobs: Sequence[PlannedJob],
    compute: ComputeOptions,
    kind: PictureFormat,
    quality: int | None,
    store: Store,
    artifacts: list[Path | Artifact],
) -> list[DrawingTask]:
    """The batches of all jobs. artifacts: takes the concepts that they call, each once."""
    from perfusion_registry.render.draw import batches

    numbers: dict[str, int] = {}
    tasks = []
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
                "composition": json.loads(composition.to_json()),
                "request": request.model_dump(mode="json"),
                "compute": [compute.device, compute.dtype, compute.offload, compute.threads or 1],
                "format": [kind, quality],
            }
            digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
            tasks.append(
                DrawingTask(one.title, number, first, composition, request, job.given, called, digest)
            )
            first += len(request.seeds)
    return tasks
