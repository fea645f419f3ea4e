"""Which covariance a project builds with, known by its file without loading it."""

from __future__ import annotations

import hashlib
import io
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import LockedCovariance
from perfusion_registry.resolve.images import digest_file
from perfusion_registry.resolve.project import Project

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
                tensor = _header(self.path)["C"]
                (length,) = struct.unpack("<Q", data[:8])
                begin, end = (8 + length + offset for offset in tensor["data_offsets"])
                matrix = _numbers(data[begin:end], tensor["dtype"]).reshape(tensor["shape"])
            whole = matrix.astype("<f8")
            return hashlib.sha256(np.ascontiguousarray((whole + whole.T) / 2).tobytes()).hexdigest()
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return None


def find_covariance(project: Project, shipped: Path | None) -> CovarianceFile:
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
    digest = digest_file(path)
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


def _numbers(data: bytes, kind: str) -> Any:
    """The flat array of a safetensors tensor; bf16 is the upper half of float32."""
    import numpy as np

    if kind == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[kind])


def _header(path: Path) -> dict[str, Any]:
    """The safetensors header, or nothing for another format: the loader judges files, the lock only cites."""
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _LARGEST_HEADER + 1
            if length > _LARGEST_HEADER:
                return {}
            header = json.loads(file.read(length))
    except (OSError, ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


def _card(header: dict[str, Any]) -> dict[str, str]:
    metadata = header.get("__metadata__")
    try:
        card = json.loads(metadata["covariance"]) if isinstance(metadata, dict) else {}
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    items = card.items() if isinstance(card, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}


def _shape(header: dict[str, Any]) -> tuple[int, int] | None:
    tensor = header.get("C")
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    if isinstance(shape, list) and len(shape) == 2 and all(type(width) is int for width in shape):
        return shape[0], shape[1]
    return None
