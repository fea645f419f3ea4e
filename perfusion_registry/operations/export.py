"""`export`: a concept as files that other programs read, a LoRA and a textual inversion.

They know no gates: what leaves is the token, and the edit as Eq. 2 has it, ungated, which is a rank-one LoRA
of one base; a residual is a LoRA too, and applies everywhere. How far that is from the concept is measured.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compose import PromptOptions
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.job import RenderOverrides, load_job
from perfusion_registry.operations.result import Result, named
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.name import Name, Sha256, Version, canonical_name
from perfusion_registry.recipe.writing import replace_bytes
from perfusion_registry.safetensors_header import HeaderError, read_header

if TYPE_CHECKING:
    from perfusion_registry.adapters.adapter import Adapter, WordVectors

ExportForm = Literal["lora", "textual-inversion"]
FORMS: tuple[ExportForm, ...] = ("lora", "textual-inversion")
FOLDER = "exports"
EXPORTED = "perf.concept"
"""Is in the metadata of whatever perf exports."""
SEEDS = (0, 1)
TEMPLATE = "a photo of a {}*"
POOR = 0.85
"""Of the difference that the plain word's pictures have from the concept's, the share from which an export's
are told as poor. Nine good concepts of Storybook leave with 0.37 to 0.73, known by eye (`docs/log.md`)."""
_WORD = re.compile(r"[^\s,.:()\[\]{}<>*\\]{2,40}|<[\w-]{1,40}>")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to export. form: `lora`, with the token beside it where there is one, or `textual-inversion`, the
    token alone. base: for which base, as a manifest names it; the project's by default. covariance: of that
    base, where a concept has to be transferred to it. word: that prompts call it by; by default `perf-NAME`.
    out: the folder; default `exports/` of the project. force: overwrite other files.
    """

    name: str
    form: ExportForm
    base: str | None = None
    covariance: Path | None = None
    word: str | None = None
    out: Path | None = None
    force: bool = False
    compute: ComputeOptions = field(default_factory=ComputeOptions)

    def __post_init__(self) -> None:
        """Raise PerfError for a form that there is not, and for a word that prompts cannot say."""
        if self.form not in FORMS:
            raise PerfError(
                f"a concept cannot leave as {self.form!r}",
                where=f"--as {self.form}",
                hint="--as lora or --as textual-inversion",
            )
        if self.word is not None and self.word.strip("<>") == canonical_name(self.name.removesuffix("*")):
            raise PerfError(
                "the LoRA has that name, and web UIs take a token's word from the name of its file",
                where=f"--word {self.word}",
                hint=f"--word my-{self.word.strip('<>')}",
            )
        if self.word is not None and not _WORD.fullmatch(self.word):
            raise PerfError(
                f"{self.word!r} is no one word that other programs take in prompts",
                where=f"--word {self.word}",
                hint="two letters or more, without spaces, commas and brackets",
            )


class ExportedFile(FileModel):
    """A file that was written. holds: a LoRA or a textual inversion."""

    path: str
    holds: ExportForm
    sha256: Sha256
    size: int


class ExportResult(Result):
    """`perf export`. word: of prompts, for the token; None where prompts say the supercategory. prompt: one
    that calls it. kind: of bases, such as "SDXL", that other programs know; None where its base is of none.
    encodings, pictures, plain: how far it is from the concept (`render.exported.Departure`), over `seeds`
    pictures. poor: whether it comes hardly nearer to the concept than the plain word does."""

    schema_: Literal["perf.export/1"] = named("perf.export/1")
    name: Name
    version: Version
    base: str
    kind: str | None
    word: str | None
    prompt: str
    files: tuple[ExportedFile, ...]
    encodings: float | None
    pictures: float
    plain: float
    poor: bool
    seeds: int

    @property
    def sentence(self) -> str:
        """How near it is to the concept, for a person: to half a level of 255 its pictures are the same."""
        is_it = "It draws what the concept draws" if self.pictures < 0.5 else "It is not the concept itself"
        if self.poor:
            is_it = "It is poor, hardly nearer to the concept than the plain word is; look at what it draws"
        encodings = "" if self.encodings is None else f"; what K and V say differs by {self.encodings:.0%}"
        return (
            f"{is_it}: its pictures differ by {self.pictures:.1f} of 255 from the concept's, those of the "
            f"plain word by {self.plain:.1f}{encodings}"
        )

    @property
    def for_base(self) -> str:
        """Which bases can do anything with it, for a person."""
        if self.kind is None:
            return (
                f"It is for {self.base} and what is fine-tuned from it: with any other base, "
                "Stable Diffusion too, it is useless"
            )
        return f"It was made for {self.base}; another base of the kind of {self.kind} draws it less alike"


def export(workspace: Workspace, options: ExportOptions) -> ExportResult:
    """Write a concept as other programs read it, measured. Raises PerfError for one that has nothing which
    such a file could hold, before anything is drawn, and for files that are there and are others."""
    from perfusion_registry.adapters.guess import base_of_modules
    from perfusion_registry.adapters.writing import (
        KINDS,
        embedding_tensors,
        file_bytes,
        kohya_tensors,
        metadata,
    )
    from perfusion_registry.base import BaseDescription
    from perfusion_registry.base.adapted import modules_of_base
    from perfusion_registry.base.changed import require_changeable
    from perfusion_registry.compose.contributing import contributions
    from perfusion_registry.methods.contribution import Contribution
    from perfusion_registry.methods.embeddings import EMBEDDING
    from perfusion_registry.methods.exporting import left_out, plain_adapters, word_vectors
    from perfusion_registry.render.exported import departure

    name = canonical_name(options.name.removesuffix("*"))
    prompt = PromptOptions(
        prompt=TEMPLATE.format(name),
        base=options.base,
        covariance=options.covariance,
        compute=options.compute,
    )
    job = load_job(workspace, prompt, RenderOverrides(seeds=SEEDS))
    base, composition, artifacts = job.loaded.base, job.loaded.composition, job.loaded.artifacts
    assert isinstance(base.description, BaseDescription)  # a project's base is on this machine
    modules = modules_of_base(base.description)
    artifact = artifacts[name]
    brought = contributions(base, composition, artifacts)[name]
    if brought.adapters is not None and artifact.card.imported is not None:
        raise PerfError(
            f"`{name}` was imported: what it was imported from is what other programs take",
            where=f"--as {options.form}",
            hint="take that file",
        )
    if options.form == "lora":
        require_changeable(base.denoiser)
    adapters = plain_adapters(base, brought) if options.form == "lora" else ()
    words = None
    if EMBEDDING in artifact.tensors:
        words = word_vectors(brought, options.word or f"perf-{name}")
    elif brought.words:
        words = word_vectors(Contribution(brought.words[0]), options.word or f"perf-{name}")
    _check(name, artifact.card.method, options.form, adapters, words)
    if adapters and (rest := left_out(base, brought)):
        changed = " and ".join(rest)
        workspace.reporter.warn(f"what `{name}` changes of {changed} stays: a LoRA has no place for it")
    if brought.target is not None and brought.target.plain_keys:
        workspace.reporter.warn(f"the global lock of `{name}` leaves as a local one: a LoRA has no other")
    project = job.loaded.project
    folder = options.out or (project.root if project is not None else Path()) / FOLDER
    paths: dict[ExportForm, Path] = {"lora": folder / f"{name}.safetensors"} if adapters else {}
    if words is not None:
        paths["textual-inversion"] = folder / f"{str(words.word).strip('<>')}.safetensors"
    for path in paths.values():
        _require_free(path, force=options.force)
    word, concept = None if words is None else words.word, composition.concepts[0]
    called = concept.said if word is None else word
    if concept.learned and word is not None:  # within a phrase
        own = concept.learned[0].word  # a word by itself: "at" is none of "cat"
        called = " ".join(word if said == own else said for said in concept.said.split(" "))
    found = departure(base, composition, artifacts, job.request, adapters, words, called, workspace.reporter)
    said = {
        "perf.concept": f"{name} {artifact.card.version}",
        "perf.method": artifact.card.method,
        "perf.base": base.description.digest,
        "perf.prompt": TEMPLATE.format(called).removesuffix("*"),
        "perf.difference_of_pictures": f"{found.pictures:.2f} of 255; the plain word's: {found.plain:.2f}",
    }
    if found.encodings is not None:
        said["perf.difference_of_encodings"] = f"{found.encodings:.4f}"
    files, kind = [], base_of_modules(modules)
    for form, path in paths.items():
        if form == "textual-inversion" and words is not None:
            tensors = embedding_tensors(words)
        else:
            tensors = kohya_tensors(adapters, modules)
        card, repo = artifact.card, base.description.repo
        about = metadata(form, modules, title=name, base=repo, word=word, licence=card.licence)
        files.append(_written(path, form, file_bytes(tensors, {**about, **said})))
    return ExportResult(
        name=name,
        version=artifact.card.version,
        base=base.description.repo,
        kind=kind if kind in KINDS else None,
        word=word,
        prompt=said["perf.prompt"],
        files=tuple(files),
        encodings=None if found.encodings is None else round(found.encodings, 4),
        pictures=round(found.pictures, 2),
        plain=round(found.plain, 2),
        poor=is_poor(found.pictures, found.plain),
        seeds=len(SEEDS),
    )


def is_poor(pictures: float, plain: float) -> bool:
    """Whether an export is hardly nearer to its concept than the plain word is, by both's differences."""
    return pictures >= max(POOR * plain, 0.5)


def _check(
    name: str, method: str, form: ExportForm, adapters: tuple[Adapter, ...], words: WordVectors | None
) -> None:
    """Raise PerfError where a file of that form would hold nothing of the concept."""
    if form == "textual-inversion" and words is None:
        raise PerfError(
            f"`{name}`, of the method `{method}`, has no token of its own, which a textual inversion is",
            where=f"--as {form}",
            hint="--as lora",
        )
    if form == "lora" and not adapters:
        raise PerfError(
            f"`{name}`, of the method `{method}`, changes no weights, which a LoRA does",
            where=f"--as {form}",
            hint="--as textual-inversion",
        )


def _require_free(path: Path, *, force: bool) -> None:
    """Raise PerfError where a file of other origin is there."""
    if path.exists() and not force and EXPORTED not in metadata_of(path):
        raise PerfError(
            "there is a file that perf did not export",
            where=str(path),
            hint="--force overwrites it; --out FOLDER and --word WORD write elsewhere",
        )


def _written(path: Path, form: ExportForm, data: bytes) -> ExportedFile:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PerfError(f"the folder cannot be made: {error.strerror}", where=str(path.parent)) from error
    replace_bytes(path, data)
    digest = hashlib.sha256(data).hexdigest()
    return ExportedFile(path=str(path), holds=form, sha256=digest, size=len(data))


def metadata_of(path: Path) -> Mapping[str, str]:
    """Of a safetensors file; none of anything else."""
    try:
        return read_header(path).metadata
    except (OSError, HeaderError):
        return {}
