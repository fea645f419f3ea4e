"""The sequence: build and train, draw, score, write; each step skips what is there."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import perfusion_registry as perf
from benchmarks.real.asked import compute_of, files_of, require_the_same, templates_of, words_of
from benchmarks.real.ours import Drawing, Ours
from benchmarks.real.scores import Scores
from benchmarks.real.subjects import Subject, read_subjects
from benchmarks.real.table import markdown, summary
from benchmarks.real.theirs import SCRIPTS, Script, release
from perfusion_registry.base import Scorer, describe_base
from perfusion_registry.base.likeness import Likeness
from perfusion_registry.errors import PerfError

OURS, PLAIN = "perf", "the plain word"


@dataclass(eq=False)
class Comparison:
    """rows: what was measured, by method and subject. failed: what was not, in sentences. scorers: what loads
    each, by the name that its scores are kept under."""

    out: Path
    subjects: list[Subject]
    ours: Ours
    how: Drawing
    templates: tuple[str, ...]
    scorers: Mapping[str, Callable[[], Scores]]
    scripts: tuple[Script, ...]
    checkout: Path | None
    more: list[str]
    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, asked: Any) -> Comparison:
        """Read everything, and refuse what cannot be done, before anything is built. Raises PerfError."""
        out: Path = asked.out
        files_of(asked)
        subjects, about = read_subjects(asked.subjects), describe_base(asked.base)
        templates, more = templates_of(asked), words_of(asked)
        scripts: tuple[Script, ...] = ()
        if asked.diffusers_examples is not None:
            scripts = tuple(script for script in SCRIPTS if about.architecture in script.architectures)
            if about.folder is None or not about.folder.is_dir():
                raise PerfError("diffusers' scripts train on a folder, not on one file", where=asked.base)
        said = require_the_same(out / "asked.json", asked, subjects, templates)
        covariance, compute = asked.covariance, compute_of(asked)
        if asked.captions is not None:
            covariance = out / "covariance.safetensors"
            if not covariance.exists():
                perf.estimate_covariance(asked.captions, covariance, base=asked.base, **compute)
        (out / "asked.json").write_text(json.dumps(said, indent=2) + "\n", "utf-8")

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        scorers: dict[str, Callable[[], Scores]] = {}
        if asked.clip is not None:
            scorers["clip"] = lambda: Scores(Scorer.load(asked.clip, device), None)
        elif about.clip is not None:
            scorers["clip"] = lambda: Scores(Scorer.of(about, device), None)
        if asked.dino is not None:
            scorers[f"dino {asked.dino}"] = lambda: Scores(None, Likeness.load(asked.dino, device))

        ours = Ours(out / "project", asked.base, covariance, asked.clip, asked.train_steps, compute)
        how = Drawing(tuple(range(asked.seeds)), asked.steps, asked.guidance)
        return cls(out, subjects, ours, how, templates, scorers, scripts, asked.diffusers_examples, more)

    def run(self) -> dict[str, Any]:
        """Everything, and the report. perf's builds and pictures come first: others are drawn as they are."""
        self.ours.begin(self.subjects)
        for subject in self.subjects:
            with self._told(OURS, subject):
                measured = self.ours.build(subject, self._run(OURS, subject))
                self.rows.setdefault(OURS, {})[subject.name] = measured
        for method, plain in ((OURS, False), (PLAIN, True)):
            for subject in self.subjects:
                if subject.name in self.rows.get(OURS, {}):
                    with self._told(method, subject):
                        self._draw(method, subject, self._drawn_by_perf(subject, plain))
        self.ours.__dict__.pop("composer", None)
        release()
        for script in self.scripts:
            for subject in self.subjects:
                if subject.name in self.rows.get(OURS, {}):
                    with self._told(script.name, subject):
                        self._train_and_draw(script, subject)
                    release()
        self._score()
        return self._write()

    def _train_and_draw(self, script: Script, subject: Subject) -> None:
        assert self.checkout is not None
        size, base = self.like.request.height, describe_base(self.ours.base).folder
        result = self._run(script.name, subject)
        measured = script.train(self.checkout, base, subject, size, result, self.more)
        self.rows.setdefault(script.name, {})[subject.name] = measured
        pipes: list[Any] = []

        def draw(template: str, seed: int) -> Any:
            if not pipes:
                pipes.append(script.pipeline(base, self.like, result.with_suffix("") / "out"))
            return script.draw(pipes[0], subject, template, seed, self.like)

        self._draw(script.name, subject, draw)

    def _drawn_by_perf(self, subject: Subject, plain: bool) -> Callable[[str, int], Any]:
        def draw(template: str, seed: int) -> Any:
            (picture,) = self.ours.draw(subject, template, (seed,), self.how, plain=plain)
            return picture

        return draw

    def _draw(self, method: str, subject: Subject, draw: Callable[[str, int], Any]) -> None:
        """The pictures that are missing, and the seconds of one: the median, the first of a run left out."""
        folder = self._pictures(method, subject)
        folder.mkdir(parents=True, exist_ok=True)
        known = folder / "seconds.json"
        seconds: list[float] = json.loads(known.read_text("utf-8")) if known.exists() else []
        first = True
        for path, template, seed in self._all_of(folder):
            if path.exists():
                continue
            began = time.perf_counter()
            picture = draw(template, seed)
            if not first:
                seconds.append(time.perf_counter() - began)
            first = False
            picture.save(path.with_suffix(".half.png"))
            path.with_suffix(".half.png").rename(path)
            known.write_text(json.dumps(seconds), "utf-8")
        row = self.rows.setdefault(method, {}).setdefault(subject.name, {})
        if seconds:
            row["seconds_per_picture"] = statistics.median(seconds)

    @property
    def like(self) -> Any:
        """The record of one of perf's pictures: how all others are drawn. Raises PerfError without one."""
        if self._first_picture is None:
            raise PerfError("perf has drawn no picture that it could be drawn like", where=str(self.out))
        return perf.read_record(self._first_picture)

    @property
    def _first_picture(self) -> Path | None:
        folders = (self._pictures(OURS, subject) for subject in self.subjects)
        every = (path for folder in folders for path, _, _ in self._all_of(folder))
        return next((path for path in every if path.exists()), None)

    def _all_of(self, folder: Path) -> Iterator[tuple[Path, str, int]]:
        """The pictures that are asked for, whether they are there or not: path, template and seed of each."""
        for number, template in enumerate(self.templates):
            for seed in self.how.seeds:
                yield folder / f"{number}-{seed}.png", template, seed

    def _score(self) -> None:
        """Every picture that is asked for, once by each scorer; scores are kept by scorer and picture."""
        known = self.out / "scores.json"
        kept: dict[str, dict[str, Any]] = json.loads(known.read_text("utf-8")) if known.exists() else {}
        for name, load in self.scorers.items():
            scores, own = None, kept.setdefault(name, {})
            for method, each in self.rows.items():
                for subject in self.subjects:
                    found: list[dict[str, float]] = []
                    for path, template, _ in self._all_of(self._pictures(method, subject)):
                        key = path.relative_to(self.out).as_posix()
                        if not path.exists():
                            continue
                        if key not in own:
                            scores = scores or load()
                            own[key] = scores.of(path, subject, template)
                            known.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
                        found.append(own[key])
                    if found and subject.name in each:
                        means = {which: statistics.fmean(one[which] for one in found) for which in found[0]}
                        each[subject.name].update(means)

    def _write(self) -> dict[str, Any]:
        gpu = torch.cuda.is_available() and self.ours.compute.get("device") != "cpu"
        where = torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine()
        memory = "allocated on the GPU" if gpu else "resident, of the whole process"
        about = {
            "base": self.ours.base,
            "subjects": len(self.subjects),
            "pictures of each": f"{len(self.templates)} prompts, {len(self.how.seeds)} seeds",
            "measured on": where,
            "memory": memory,
        }
        if self._first_picture is not None:
            asked = self.like.request
            steps = f"{asked.steps} steps, guidance {asked.guidance:g}"
            about["drawn with"] = f"{asked.scheduler}, {steps}, {self.like.dtype}"
        report = {"about": about, "summary": summary(self.rows), "subjects": self.rows, "failed": self.failed}
        (self.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        page = markdown(self.rows, about, self.failed)
        (self.out / "report.md").write_text(page, "utf-8")
        print(page)
        return report

    def _run(self, method: str, subject: Subject) -> Path:
        return self.out / "runs" / method.replace(" ", "-") / f"{subject.name}.json"

    def _pictures(self, method: str, subject: Subject) -> Path:
        return self.out / "pictures" / method.replace(" ", "-") / subject.name

    @contextmanager
    def _told(self, method: str, subject: Subject) -> Iterator[None]:
        """What fails is named in the report, and the rest goes on."""
        print(f"{method}: {subject.name}", flush=True)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - other programs fail in their own ways
            kind = "" if isinstance(error, PerfError) else f"{type(error).__name__}: "
            self.failed.append(f"{method}, {subject.name}: {kind}{' '.join(str(error).split())}")
            print(f"  {error}", flush=True)
