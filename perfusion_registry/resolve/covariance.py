"""Which covariance a project builds with, known by its file without loading it."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.recipe import LockedCovariance
from perfusion_registry.resolve.project import ProjectFolder
from perfusion_registry.safetensors_header import Header, HeaderError, floats, read_header

_LARGEST_HEADER = 1024 * 1024


@dataclass(frozen=True)
class CovarianceFile:
    """A covariance on disk. digest: the SHA-256 of the file. locked: what a lockfile records of it."""

    path: Path
    digest: str
    locked: LockedCovariance

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
    named = project.manifest.project.covariance
    path = project.root / named if named is not None else shipped
    if path is None:
        raise PerfError(
            f"the base `{project.manifest.project.base}` comes without a covariance",
            where=f"{project.manifest_path}, project.covariance",
            hint="run `perf covariance CAPTIONS --out covariance.safetensors`, "
            'then set `covariance = "covariance.safetensors"` in [project]',
        )
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
    )


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
