"""A base on disk, described without loading it: its files, their digests, its family and its card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import get_args

from perfusion_registry.base.architecture import Architecture
from perfusion_registry.base.architectures import architecture, recognise
from perfusion_registry.base.card import CARD_FILE, BaseCard
from perfusion_registry.base.checkpoint import CheckpointFiles
from perfusion_registry.base.digest import file_digest, folder_digest
from perfusion_registry.base.embedded import NotInstalledError, embedded_folder
from perfusion_registry.base.files import INDEX, MODULAR_INDEX, BaseFiles
from perfusion_registry.base.hub import ALLOW_VARIABLE, NotDownloadedError, snapshot
from perfusion_registry.base.identity import BaseDescription, BaseFile, BaseIdentity
from perfusion_registry.base.option_files import find_options
from perfusion_registry.base.options import SaidOfBase
from perfusion_registry.base.prediction import Asked, Prediction, PredictionKind
from perfusion_registry.base.reference import FILES, BaseReference
from perfusion_registry.base.weights import weight_files
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.base_section import BaseSection


def describe_base(
    reference: BaseReference | str,
    *,
    root: Path | None = None,
    allow_download: bool | None = None,
    said: SaidOfBase | None = None,
) -> BaseDescription:
    """Find a base on this machine and describe it, without importing torch.

    root: what a relative path is relative to; the working directory by default.
    allow_download: whether a hub model that is not here may be downloaded; None asks PERF_ALLOW_DOWNLOAD.
    said: what `[base]` of a project says of it.
    Raises PerfError when the base is not here, incomplete, or of no architecture that can carry concepts, and
    for what is said and cannot be.
    """
    reference = BaseReference.parse(reference) if isinstance(reference, str) else reference
    path = _find(reference, root, allow_download)
    kind, files = _recognised(path, said)
    draws = _draws(kind, files)  # what cannot be drawn with is told before gigabytes are hashed
    options = find_options(said, kind, reference.repo, files, allow_download)
    files = replace(files, left_out=options.left_out, text_marks=options.text_marks)
    revision = path.name if reference.kind == "hub" else None
    own = _of_file(files) if isinstance(files, CheckpointFiles) else _of_folder(kind, files)
    card = own.card.with_defaults(options.said.defaults if options.said else {})
    return BaseDescription(
        repo=reference.repo,
        revision=revision,
        folder=files.file if isinstance(files, CheckpointFiles) else files.folder,
        files=(*own.files, *options.files),
        digest=options.drawing_digest(own.digest),
        plain_digest=own.digest,
        family=kind.family(files),
        card=card,
        variants=files.variants,
        architecture=kind.name,
        text_digest=options.text_digest(own.text_digest),
        text_weights=_text_weights(kind, files),
        prediction=files.prediction if isinstance(files, CheckpointFiles) else None,
        options=options,
        draws=draws,
    )


def _draws(kind: Architecture, files: BaseFiles) -> tuple[str, ...]:
    told = getattr(kind, "draws", None)
    return BaseIdentity.draws if told is None else tuple(told(files))


@dataclass(frozen=True)
class CheckedBase:
    """Of a base what can be told without hashing it. here: whether it is on this machine. untrainable: why no
    concept can be trained on one that can be drawn with all the same. brought_by: what brings one that is not
    here."""

    here: bool
    untrainable: str | None = None
    brought_by: str | None = None


def check_base(name: str, *, root: Path | None = None) -> CheckedBase:
    """Look at a base as `describe_base` does, but hash no files.

    Of one that is not on this machine nothing can be told. Raises PerfError for what is no
    base, and for one on which no concept can be trained, unless it is made for inpainting.
    """
    try:
        path = _find(BaseReference.parse(name), root, allow_download=False)
    except NotDownloadedError:
        return CheckedBase(here=False, brought_by=f"{ALLOW_VARIABLE}=1 lets perf download it")
    except NotInstalledError as error:
        return CheckedBase(here=False, brought_by=error.hint)
    kind, files = _recognised(path)
    kind.family(files)
    try:
        kind.require_trainable(files, files.card)
    except PerfError as error:
        if "text" in _draws(kind, files):
            raise
        return CheckedBase(here=True, untrainable=error.what)
    return CheckedBase(here=True)


def _find(reference: BaseReference, root: Path | None, allow_download: bool | None) -> Path:
    """The folder of a base, or its file; of a hub model its name is the commit."""
    if reference.kind == "embedded":
        folder = embedded_folder()
    elif reference.kind == "hub":
        folder = snapshot(reference, allow_download=allow_download, models=_models)
    else:
        path = reference.place(root)
        assert path is not None
        folder = path
        if not folder.exists():
            what = "file" if folder.suffix.lower() in FILES else "folder"
            raise PerfError(
                f"the base's {what} does not exist",
                where=str(folder),
                hint=f'name the {what} of a model, one of the hub as owner/name, or "storybook"',
            )
    return folder


def require_trainable(description: BaseDescription) -> None:
    """Raise PerfError for a base that can draw concepts and on which none can be trained."""
    prediction = description.prediction
    files = BaseFiles(description.folder, description.variants)
    if prediction is not None:
        files = CheckpointFiles.open(description.folder, prediction.asked_again)
    architecture(description.architecture).require_trainable(files, description.card)


def as_drawn(description: BaseDescription, digest: str) -> BaseDescription:
    """A base as it was where its digest is known from: of a base in one file, what its denoiser was said to
    predict is a part of that; and what was drawn without its controls may be from before it had any. As it
    is, where that digest is of another base."""
    if description.digest == digest:
        return description
    uncontrolled = description.without_controls
    if uncontrolled.digest == digest:
        return uncontrolled
    if description.prediction is None:
        return description
    for kind, zero in product(get_args(PredictionKind), (False, True)):
        plain = _file_base_digest(description.files[0].sha256, kind, zero)
        if description.options.drawing_digest(plain) == digest:
            prediction = Prediction(kind, zero, "what was drawn with it", asked=True)
            return replace(description, digest=digest, plain_digest=plain, prediction=prediction)
    return description


def _file_base_digest(sha256: str, kind: PredictionKind, zero_terminal_snr: bool) -> str:
    return hashlib.sha256(f"{sha256} {kind} {zero_terminal_snr}".encode()).hexdigest()


@dataclass(frozen=True)
class _Own:
    """What a base is by its own files."""

    files: tuple[BaseFile, ...]
    digest: str
    text_digest: str
    card: BaseCard


def _of_file(files: CheckpointFiles) -> _Own:
    digest, prediction = file_digest(files.file), files.prediction
    plain = _file_base_digest(digest, prediction.kind, prediction.zero_terminal_snr)
    file = BaseFile(files.file.name, digest, files.file.stat().st_size)
    return _Own((file,), plain, replace(files, left_out={}, text_marks=()).text_digest, files.card)


def _of_folder(kind: Architecture, files: BaseFiles) -> _Own:
    folder, card = files.folder, files.card
    weights = [path for model in kind.models for path in files.weights(model)]
    described = tuple(
        BaseFile(path.relative_to(folder).as_posix(), file_digest(path), path.stat().st_size)
        for path in sorted(
            _files(folder, card, kind, weights), key=lambda path: path.relative_to(folder).as_posix()
        )
    )
    text = _digest(file for file in described if file.path.startswith(_folders(kind.text)))
    return _Own(described, _digest(described), text, card)


def _recognised(path: Path, said: SaidOfBase | None = None) -> tuple[Architecture, BaseFiles]:
    """What kind of base this is, and its files; damaged ones are told before gigabytes are hashed."""
    if path.is_file():
        section = said.section if said else BaseSection()
        checkpoint = CheckpointFiles.open(path, Asked(section.prediction, section.zero_terminal_snr))
        return recognise(checkpoint), checkpoint
    for key in ("prediction", "zero_terminal_snr"):
        if said is not None and getattr(said.section, key) is not None:
            raise PerfError(
                f"`{key}` is for a base in one file, and this base is a folder: {path}",
                where=said.at(key),
                hint="take the line out: a folder says it in scheduler/scheduler_config.json",
            )
    files = BaseFiles(path)
    kind = recognise(files)
    files = files.with_variants(kind.models)
    for model in kind.models:
        files.tensors(model)
    return kind, files


def _text_weights(kind: Architecture, files: BaseFiles) -> str:
    encoders = [component for component in kind.text if component in kind.models]
    own = getattr(kind, "text_weights", None)
    digests = (
        [digest for component in encoders for digest in files.text_digests(component)]
        if own is None
        else own(files)
    )
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _digest(files: Iterable[BaseFile]) -> str:
    return folder_digest((file.path, file.sha256) for file in files)


def _folders(components: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{component}/" for component in components)


def _models(folder: Path) -> tuple[str, ...]:
    return recognise(BaseFiles(folder)).models


def _files(folder: Path, card: BaseCard, kind: Architecture, weights: Iterable[Path]) -> set[Path]:
    """Every file that changes what the base draws or how its pictures are scored; never the covariance."""
    files = {folder / INDEX, folder / MODULAR_INDEX, folder / CARD_FILE, *weights}
    for model in kind.models:
        files.add(folder / model / "config.json")
    for plain in {"scheduler", *kind.text} - {*kind.models}:
        files.update(
            path for path in (folder / plain).glob("*") if path.suffix in (".json", ".txt", ".model")
        )
    clip = folder / card.clip
    files.update(weight_files(clip))
    files.update(path for path in clip.glob("*") if path.suffix in (".json", ".txt"))
    return {path for path in files if path.is_file()}
