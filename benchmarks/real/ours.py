"""perf's own side: a project over the subjects, a build of each in a process of its own, and what draws."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import perfusion_registry as perf
from benchmarks.real.measured import run
from benchmarks.real.subjects import Subject
from perfusion_registry.recipe.document import quote


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn, on every side alike; None: as the base has it."""

    seeds: tuple[int, ...]
    steps: int | None
    guidance: float | None


@dataclass(frozen=True, eq=False)
class Ours:
    """folder: of the project. base: as `perf init --base` takes it. covariance, clip: a file and a folder;
    None for the base's own. compute: `--device` and `--dtype`, where they are said."""

    folder: Path
    base: str
    covariance: Path | None
    clip: Path | None
    train_steps: int | None
    compute: dict[str, str]

    def begin(self, subjects: Sequence[Subject]) -> None:
        """Write the project, unless it is there."""
        manifest = self.folder / "perfusion.toml"
        if not manifest.exists():
            perf.create(self.folder, base=self.base, name="real")
            text = manifest.read_text("utf-8")
            if self.covariance is not None:
                own = quote(os.path.relpath(self.covariance, self.folder))
                text = text.replace("[project]\n", f"[project]\ncovariance = {own}\n", 1)
            if self.clip is not None:
                own = quote(os.path.relpath(self.clip, self.folder))
                text = text.replace("[concepts]\n", f"[base]\nscorer = {own}\n\n[concepts]\n", 1)
            manifest.write_text(text, "utf-8")
        declared = tomllib.loads(manifest.read_text("utf-8")).get("concepts", {})
        for subject in subjects:
            if subject.name not in declared:
                pictures = [str(path.absolute()) for path in subject.pictures]
                self.project.add(subject.name, subject.word, pictures, steps=self.train_steps)

    @property
    def project(self) -> Any:
        return perf.open(self.folder)

    def build(self, subject: Subject, result: Path) -> dict[str, Any]:
        """Seconds, memory and bytes of a build, imports and the choice of the best step included."""
        flags = [part for option in self.compute.items() for part in (f"--{option[0]}", option[1])]
        arguments = ["build", subject.name, "--quiet", "--project", str(self.folder.absolute()), *flags]
        measured = run(result, ["benchmarks.real.perf_build", *arguments], goes_on=True)
        locked = tomllib.loads((self.folder / "perfusion.lock").read_text("utf-8"))["concept"]
        return measured | {"bytes": next(one["size"] for one in locked if one["name"] == subject.name)}

    @cached_property
    def composer(self) -> Any:
        return self.project.composer(**self.compute)

    def draw(
        self, subject: Subject, template: str, seeds: Sequence[int], how: Drawing, *, plain: bool
    ) -> Iterator[Any]:
        """Pictures of the concept or, plain, of its word alone."""
        prompt = template.format(subject.word if plain else f"{subject.name}*")
        yield from self.composer.render(prompt, seeds=seeds, steps=how.steps, guidance=how.guidance)
