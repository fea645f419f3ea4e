"""The safetensors files of a model folder, read without torch: names, shapes, a digest of the contents."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfusion_registry.errors import PerfError

_STEMS = ("diffusion_pytorch_model", "model")
_INCOMPLETE = "fetch the model again; the file is incomplete or damaged"


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file. dtype: as safetensors calls it. start, end: its bytes within the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def weight_files(folder: Path, variant: str | None = None) -> tuple[Path, ...]:
    """The safetensors files of the model in `folder`, and their index if they are several; or none.

    variant: None for the plain files, "fp16" for those named so.
    """
    infix = f".{variant}" if variant else ""
    for stem in _STEMS:
        single = folder / f"{stem}{infix}.safetensors"
        if single.is_file():
            return (single,)
        index = folder / f"{stem}.safetensors.index{infix}.json"
        if index.is_file():
            return (*(folder / name for name in _shards(index)), index)
    return ()


def _shards(index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise PerfError(
            "the index of the weights cannot be read", where=str(index), hint=_INCOMPLETE
        ) from error
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise PerfError("the index of the weights names files outside its folder", where=str(index))
    return sorted(names)


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file by name. Raises PerfError when it is missing, cut or malformed."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, 100_000_000):
                raise PerfError(
                    "the weights are not a whole safetensors file", where=str(path), hint=_INCOMPLETE
                )
            header: dict[str, Any] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        base = 8 + length
        entries = {
            name: TensorEntry(
                str(said["dtype"]),
                tuple(int(n) for n in said["shape"]),
                base + int(said["data_offsets"][0]),
                base + int(said["data_offsets"][1]),
            )
            for name, said in header.items()
        }
    except OSError as error:
        raise PerfError(f"the weights cannot be read: {error.strerror}", where=str(path)) from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise PerfError(
            "the weights are not a safetensors file", where=str(path), hint=_INCOMPLETE
        ) from error
    if max((entry.end for entry in entries.values()), default=base) != size:
        raise PerfError("the weights are not a whole safetensors file", where=str(path), hint=_INCOMPLETE)
    return entries


def half_precision_digest(path: Path) -> str:
    """A hex sha256 over a file's floating-point tensors rounded to fp16, by name.

    A model saved in fp16 and the fp32 model it was rounded from have the same one, whatever the order of the
    tensors, the file's metadata, and the `text_model.` that older versions of transformers put before each
    name.
    """
    total = hashlib.sha256()
    entries = {name.removeprefix("text_model."): entry for name, entry in read_header(path).items()}
    with path.open("rb") as file:
        for name in sorted(entries):
            entry = entries[name]
            if entry.dtype not in ("F64", "F32", "F16", "BF16"):
                continue  # position numbers, which some versions of transformers save and others do not
            file.seek(entry.start)
            halves = _to_half(file.read(entry.end - entry.start), entry.dtype)
            total.update(json.dumps([name, entry.shape]).encode())
            total.update(hashlib.sha256(halves).digest())
    return total.hexdigest()


def _to_half(data: bytes, dtype: str) -> bytes:
    if dtype == "F16":
        return data
    import numpy as np  # late: a family that is remembered needs none

    if dtype == "BF16":  # the upper half of an fp32
        wide = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    else:
        wide = np.frombuffer(data, "<f4" if dtype == "F32" else "<f8")
    with np.errstate(over="ignore"):
        return wide.astype("<f2").tobytes()
