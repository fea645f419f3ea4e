"""Which covariance a project builds with, known by its file without loading it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.methods.table import find_method
from perfusion_registry.recipe import LockedCovariance, Recipe
from perfusion_registry.resolve.project import ProjectFolder
from perfusion_registry.safetensors_header import Header, HeaderError, floats, read_header

_LARGEST_HEADER = 1024 * 1024


@dataclass(frozen=True)
class CovarianceFile:
    """A covariance on disk. digest: the SHA-256 of the file. locked: what a lockfile records of it. encoder,
    text_weights: of the text encoder that it was estimated with, as its card says; None where it does not.
    """

    path: Path
    digest: str
    locked: LockedCovariance
    encoder: str | None = None
    text_weights: str | None = None

    @cached_property
    def matrix(self) -> str | None:
        """The SHA-256 of the matrix alone, by which artifacts name it; None where it cannot be read.

        The symmetric part as little-endian float64 by rows: `build.Covariance.digest`, without torch.
        """
        import numpy as np

        try:
            data = self.path.read_bytes()
            if data[:6] == b"\x93NUMPY":
                matrix = np.load(io.BytesIO(data), allow_pickle=False)
            else:
                tensors = read_header(data, limit=_LARGEST_HEADER).tensors
                entry = tensors["C"] if len(tensors) != 1 else next(iter(tensors.values()))
                matrix = floats(data[entry.start : entry.end], entry.dtype).reshape(entry.shape)
            whole = matrix.astype("<f8")
            return hashlib.sha256(np.ascontiguousarray((whole + whole.T) / 2).tobytes()).hexdigest()
        except (OSError, ValueError, KeyError):
            return None


def find_covariance(project: ProjectFolder, shipped: Path | None) -> CovarianceFile:
    """The project's own covariance if the manifest names one, else the one that is `shipped` with the base.

    Raises PerfError when there is neither, or the named file is not there.
    """
    found = covariance_if_any(project, shipped)
    if found is None:
        raise no_covariance(project)
    return found


def covariance_if_any(project: ProjectFolder, shipped: Path | None) -> CovarianceFile | None:
    """The same, or None where there is neither: concepts of some methods need none."""
    named = project.manifest.project.covariance
    path = project.root / named if named is not None else shipped
    return None if path is None else covariance_file(path)


def needs_covariance(project: ProjectFolder) -> bool:
    """Whether a concept that has a recipe here is of a method that needs one; what cannot be read may be."""
    try:
        declared = [project.declared(name) for name in project.local()]
    except PerfError:
        return True
    recipes = (one for one in declared if isinstance(one, Recipe))
    return any(find_method(recipe.concept.method).needs_covariance for recipe in recipes)


def no_covariance(project: ProjectFolder) -> PerfError:
    """The error for a project that has none and needs one."""
    return PerfError(
        f"the base `{project.manifest.project.base}` comes without a covariance",
        where=f"{project.manifest_path}, project.covariance",
        hint="run `perf covariance CAPTIONS --out covariance.safetensors`, "
        'then set `covariance = "covariance.safetensors"` in [project]',
    )


def covariance_differs(locked: LockedCovariance | None, here: CovarianceFile | None) -> bool:
    """Whether the covariance that is here is not the locked one."""
    return (locked.sha256 if locked else None) != (here.digest if here else None)


def covariance_file(path: Path) -> CovarianceFile:
    """A covariance by its file. Raises PerfError where there is none."""
    if not path.is_file():
        raise PerfError("there is no covariance file here", where=str(path))
    digest = sha256_of(path)
    header = _header(path)
    card = _card(header)
    return CovarianceFile(
        path,
        digest,
        LockedCovariance(
            sha256=digest,
            shape=_shape(header),
            corpus=card.get("corpus"),
            builder=card.get("encoder"),
        ),
        encoder=_known(card, "encoder"),
        text_weights=_known(card, "text_weights"),
    )


class TextFacts(Protocol):
    """What is known of a base's text encoder, and of the covariance that comes with it."""

    @property
    def covariance(self) -> Path | None:
        """The file that ships with the base."""

    @property
    def text_digest(self) -> str:
        """Of its files."""

    @property
    def text_weights(self) -> str:
        """Of its numbers."""


def check_encoder(found: CovarianceFile, base: TextFacts) -> None:
    """Raise PerfError for a covariance of another text encoder than the base's, which may well have its
    width.

    A covariance that ships with a base is vouched for by whoever made that; of one that says nothing, such as
    a bare matrix, nothing can be told.
    """
    if found.path == base.covariance:
        return
    of, own, what = found.text_weights, base.text_weights, "is of another text encoder"
    if of is None:  # as cards are that an earlier perf wrote
        of, own, what = found.encoder, base.text_digest, "was estimated with other files of a text encoder"
    if of is not None and "unknown" != own != of:
        raise PerfError(
            f"the covariance {what} ({of[:12]}) than this base's ({own[:12]})",
            where=str(found.path),
            hint="estimate one for this base: perf covariance CAPTIONS --out FILE",
        )


def _known(card: Mapping[str, str], key: str) -> str | None:
    value = card.get(key)
    return None if value == "unknown" else value


def _header(path: Path) -> Header:
    """The safetensors header, or an empty one for another format: the loader judges files, the lock cites."""
    try:
        return read_header(path, limit=_LARGEST_HEADER)
    except (OSError, HeaderError):
        return Header({}, {})


def _card(header: Header) -> dict[str, str]:
    try:
        card = json.loads(header.metadata["covariance"])
    except (KeyError, ValueError, RecursionError):
        return {}
    items = card.items() if isinstance(card, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}


def _shape(header: Header) -> tuple[int, int] | None:
    shape = header.tensors["C"].shape if "C" in header.tensors else ()
    return (shape[0], shape[1]) if len(shape) == 2 else None
