"""The safetensors files of a model folder, read without torch: names, shapes, a digest of the contents."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import HeaderError, TensorEntry, floats, read_header

Halves = bytes | memoryview
"""Numbers in fp16, little-endian."""
FLOATS = ("F64", "F32", "F16", "BF16")
"""Formats of numbers that are read."""
FP8 = ("F8_E4M3", "F8_E5M2")
"""Formats of one byte that are read from one file with a whole base, as the numbers that they are."""

_STEMS = ("diffusion_pytorch_model", "model")
_VARIANT = re.compile(
    rf"({'|'.join(_STEMS)})\.((?P<own>\w+)\.safetensors|safetensors\.index\.(?P<index>\w+)\.json)"
)
_PIECE = 1 << 20
"""Bytes."""
_BEST = ("fp32", "fp16", "bf16", "non_ema")
_INCOMPLETE = "fetch the model again; the file is incomplete or damaged"


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


def weight_variants(folder: Path) -> tuple[str | None, ...]:
    """Under which names the model in `folder` has safetensors weights, the best first: None for the plain
    one, else what stands before `.safetensors`, such as "fp16", "bf16" or "non_ema"."""
    named = {
        match["own"] or match["index"]
        for path in folder.glob("*")
        if (match := _VARIANT.fullmatch(path.name))
    }
    order = sorted(named, key=lambda name: (_BEST.index(name) if name in _BEST else len(_BEST), name))
    return tuple(name for name in (None, *order) if weight_files(folder, name))


def _shards(index: Path) -> list[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise PerfError(
            "the index of the weights cannot be read", where=str(index), hint=_INCOMPLETE
        ) from error
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise PerfError("the index of the weights names files outside its folder", where=str(index))
    return sorted(names)


def tensor_entries(path: Path) -> Mapping[str, TensorEntry]:
    """The tensors of a safetensors file by name. Raises PerfError when it is missing, cut or malformed."""
    try:
        return read_header(path).tensors
    except OSError as error:
        raise PerfError(f"the weights cannot be read: {error.strerror}", where=str(path)) from error
    except HeaderError as error:
        raise PerfError(
            f"the weights are not a whole safetensors file: {error}", where=str(path), hint=_INCOMPLETE
        ) from error


def is_learned(name: str, entry: TensorEntry) -> bool:
    """Whether a tensor of a text encoder is one of its weights, and not the numbers of its positions: some
    versions of transformers save these and others do not, and tools that merge models make floats of them."""
    return entry.dtype in (*FLOATS, *FP8) and not name.endswith("position_ids")


def is_read(name: str, layers: int | None) -> bool:
    """Whether a tensor is one of the first so many layers of its text encoder, or of no layer."""
    found = None if layers is None else re.match(r"encoder\.layers\.(\d+)\.", plain_name(name))
    return found is None or int(found[1]) < (layers or 0)


def half_precision_digest(path: Path, layers: int | None = None) -> str:
    """A hex sha256 over a file's floating-point tensors rounded to fp16, by name.

    A model saved in fp16 and the fp32 model it was rounded from have the same one, whatever the order of the
    tensors, the file's metadata, and the `text_model.` that older versions of transformers put before each
    name. layers: of those of the first so many layers alone.
    """
    entries = tensor_entries(path)

    def tensors() -> Iterator[tuple[str, Sequence[int], Iterable[Halves]]]:
        with path.open("rb") as file:
            for name in sorted(entries, key=plain_name):
                entry = entries[name]
                if not (is_learned(name, entry) and is_read(name, layers)):
                    continue
                yield name, entry.shape, read_halves(file, entry.start, entry.end, entry.dtype)

    return half_digest(tensors())


def tensor_digests(path: Path, prefix: str = "") -> dict[str, str]:
    """A hex sha256 of each floating-point tensor of a file rounded to fp16, its shape included, by name.

    prefix: of the names of those that are read.
    """
    entries = tensor_entries(path)
    digests = {}
    with path.open("rb") as file:
        for name, entry in entries.items():
            if name.startswith(prefix) and is_learned(name, entry):
                halves = read_halves(file, entry.start, entry.end, entry.dtype)
                digests[name] = half_digest([("", entry.shape, halves)])
    return digests


def half_digest(tensors: Iterable[tuple[str, Sequence[int], Iterable[Halves]]]) -> str:
    """That digest over (name, shape, fp16 little-endian bytes in pieces), sorted by `plain_name`."""
    total = hashlib.sha256()
    for name, shape, pieces in tensors:
        total.update(json.dumps([plain_name(name), list(shape)]).encode())
        own = hashlib.sha256()
        for piece in pieces:
            own.update(piece)
        total.update(own.digest())
    return total.hexdigest()


def plain_name(name: str) -> str:
    """A text encoder's tensor as transformers 5 calls it."""
    return name.removeprefix("text_model.")


def read_halves(file: BufferedReader, start: int, end: int, dtype: str) -> Iterator[Halves]:
    """The numbers in these bytes of a file rounded to fp16, in pieces: each lasts until the next is read.

    A text encoder has gigabytes, and memory that is used again is several times as fast as new memory.
    """
    buffer = memoryview(bytearray(min(_PIECE, end - start)))
    file.seek(start)
    while start < end and (read := file.readinto(buffer[: end - start])):
        start += read
        yield _to_half(buffer[:read], dtype)


def _to_half(data: memoryview, dtype: str) -> Halves:
    if dtype == "F16":
        return data
    import numpy as np  # late: a family that is remembered needs none

    with np.errstate(over="ignore"):
        return floats(data, dtype).astype("<f2").data
