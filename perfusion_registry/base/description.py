"""A base on disk, described without loading it: its files, their digests, its family and its card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import get_args

from perfusion_registry.base.architecture import Architecture
from perfusion_registry.base.architectures import architecture, recognise
from perfusion_registry.base.card import CARD_FILE, BaseCard
from perfusion_registry.base.checkpoint import CheckpointFiles
from perfusion_registry.base.digest import file_digest
from perfusion_registry.base.files import INDEX, BaseFiles
from perfusion_registry.base.hub import NotDownloadedError, snapshot
from perfusion_registry.base.identity import BaseDescription, BaseFile
from perfusion_registry.base.prediction import Asked, Prediction, PredictionKind
from perfusion_registry.base.reference import FILES, BaseReference
from perfusion_registry.base.weights import weight_files
from perfusion_registry.errors import PerfError


def describe_base(
    reference: BaseReference | str,
    *,
    root: Path | None = None,
    allow_download: bool | None = None,
    asked: Asked | None = None,
) -> BaseDescription:
    """Find a base on this machine and describe it, without importing torch.

    root: what a relative path is relative to; the working directory by default.
    allow_download: whether a hub model that is not here may be downloaded; None asks PERF_ALLOW_DOWNLOAD.
    asked: what is said of a base in one file.
    Raises PerfError when the base is not here, incomplete, or of no architecture that can carry concepts.
    """
    reference = BaseReference.parse(reference) if isinstance(reference, str) else reference
    path = _find(reference, root, allow_download)
    kind, files = _recognised(path, asked)
    if isinstance(files, CheckpointFiles):
        return _describe_file(reference.repo, kind, files)
    return _describe(reference.repo, path.name if reference.kind == "hub" else None, kind, files)


def check_base(name: str, *, root: Path | None = None) -> bool:
    """Whether a base is on this machine, and one that concepts can be trained on, read as `describe_base`
    reads it but without hashing its files.

    False for a model of the hub that is not here, of which nothing can be told. Raises PerfError for anything
    else that is no such base.
    """
    try:
        path = _find(BaseReference.parse(name), root, allow_download=False)
    except NotDownloadedError:
        return False
    kind, files = _recognised(path)
    kind.family(files)
    kind.require_trainable(files, files.card)
    return True


def _find(reference: BaseReference, root: Path | None, allow_download: bool | None) -> Path:
    """The folder of a base, or its file; of a hub model its name is the commit."""
    if reference.kind == "embedded":
        folder = Path(str(resources.files("perfusion_registry"))) / "storybook" / "weights"
        if not (folder / INDEX).is_file():
            raise PerfError(
                "the embedded base is not in this installation",
                where=str(folder),
                hint="reinstall perfusion-registry, or name another base in perfusion.toml",
            )
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
        files = CheckpointFiles.open(description.folder, Asked(prediction.kind, prediction.zero_terminal_snr))
    architecture(description.architecture).require_trainable(files, description.card)


def as_drawn(description: BaseDescription, digest: str) -> BaseDescription:
    """A base in one file as it was where its digest is known from: what its denoiser was said to predict is a
    part of that. As it is, where that digest is of another file, or of a folder."""
    if description.prediction is None or description.digest == digest:
        return description
    for kind, zero in product(get_args(PredictionKind), (False, True)):
        if _file_base_digest(description.files[0].sha256, kind, zero) == digest:
            prediction = Prediction(kind, zero, "what was drawn with it", asked=True)
            return replace(description, digest=digest, prediction=prediction)
    return description


def _file_base_digest(sha256: str, kind: PredictionKind, zero_terminal_snr: bool) -> str:
    return hashlib.sha256(f"{sha256} {kind} {zero_terminal_snr}".encode()).hexdigest()


def _describe_file(repo: str, kind: Architecture, files: CheckpointFiles) -> BaseDescription:
    family, prediction = kind.family(files), files.prediction
    digest = file_digest(files.file)
    return BaseDescription(
        repo=repo,
        folder=files.file,
        files=(BaseFile(files.file.name, digest, files.file.stat().st_size),),
        digest=_file_base_digest(digest, prediction.kind, prediction.zero_terminal_snr),
        family=family,
        architecture=kind.name,
        text_digest=files.text_digest,
        text_weights=_text_weights(kind, files),
        prediction=prediction,
    )


def _describe(repo: str, revision: str | None, kind: Architecture, files: BaseFiles) -> BaseDescription:
    folder = files.folder
    weights = [path for model in kind.models for path in files.weights(model)]
    family, card = kind.family(files), files.card
    described = tuple(
        BaseFile(path.relative_to(folder).as_posix(), file_digest(path), path.stat().st_size)
        for path in sorted(
            _files(folder, card, kind, weights), key=lambda path: path.relative_to(folder).as_posix()
        )
    )
    return BaseDescription(
        repo=repo,
        revision=revision,
        folder=folder,
        files=described,
        digest=_digest(described),
        family=family,
        card=card,
        variants=files.variants,
        architecture=kind.name,
        text_digest=_digest(file for file in described if file.path.startswith(_folders(kind.text))),
        text_weights=_text_weights(kind, files),
    )


def _recognised(path: Path, asked: Asked | None = None) -> tuple[Architecture, BaseFiles]:
    """What kind of base this is, and its files; damaged ones are told before gigabytes are hashed."""
    if path.is_file():
        checkpoint = CheckpointFiles.open(path, asked or Asked())
        return recognise(checkpoint), checkpoint
    if asked is not None and asked != Asked():
        raise PerfError(
            "[base] in perfusion.toml says what a base in one file predicts, and this base is a folder",
            where=str(path),
            hint="take the table out: a folder says it in scheduler/scheduler_config.json",
        )
    files = BaseFiles(path)
    kind = recognise(files)
    files = files.with_variants(kind.models)
    for model in kind.models:
        files.tensors(model)
    return kind, files


def _text_weights(kind: Architecture, files: BaseFiles) -> str:
    encoders = [component for component in kind.text if component in kind.models]
    digests = [digest for component in encoders for digest in files.text_digests(component)]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _digest(files: Iterable[BaseFile]) -> str:
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _folders(components: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{component}/" for component in components)


def _models(folder: Path) -> tuple[str, ...]:
    return recognise(BaseFiles(folder)).models


def _files(folder: Path, card: BaseCard, kind: Architecture, weights: Iterable[Path]) -> set[Path]:
    """Every file that changes what the base draws or how its pictures are scored; never the covariance."""
    files = {folder / INDEX, folder / CARD_FILE, *weights}
    for model in kind.models:
        files.add(folder / model / "config.json")
    for plain in {"scheduler", *kind.text} - {*kind.models}:
        files.update(path for path in (folder / plain).glob("*") if path.suffix in (".json", ".txt"))
    clip = folder / card.clip
    files.update(weight_files(clip))
    files.update(path for path in clip.glob("*") if path.suffix in (".json", ".txt"))
    return {path for path in files if path.is_file()}
