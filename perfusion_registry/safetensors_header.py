"""The header of a safetensors file, read without torch: which tensors there are, of what shape, and where.

    8 bytes      the length of the header, little-endian
    the header   {"__metadata__": {...}, "name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}
    the rest     the tensors, without a gap

Nothing in the file is believed: the length is held against a limit before anything is read, and the offsets
against the size of the file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_HEADER = 100_000_000
"""Bytes that the safetensors library itself accepts."""

_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2,
    "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Of one number. There are others, which nothing here reads."""


class HeaderError(ValueError):
    """A file is not a whole safetensors file; the message says why, as in "it is truncated"."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file. dtype: as safetensors calls it. start, end: its bytes within the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a header says. metadata: texts by key. tensors: entries by name, in the order of the header."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]


def read_header(source: bytes | Path, *, limit: int = LARGEST_HEADER) -> Header:
    """The header of a file, or of its bytes. limit: bytes that the header may have.

    Raises HeaderError when it is not that of a whole safetensors file, OSError when it cannot be read.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), len(source), limit)
    with source.open("rb") as file:
        return _read(file, source.stat().st_size, limit)


def floats(data: bytes | memoryview, dtype: str) -> NDArray[Any]:
    """The numbers of a tensor, flat, as float16, 32 or 64; bf16 as the float32 whose upper half it is, fp8 as
    the float16 of the same value, which has all of them.

    Raises KeyError for another dtype.
    """
    import numpy as np  # late: few readers of a header need numbers

    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    if dtype == "F8_E5M2":
        return (np.frombuffer(data, "u1").astype("<u2") << 8).view("<f2")
    if dtype == "F8_E4M3":
        numbers: NDArray[Any] = _e4m3()[np.frombuffer(data, "u1")]
        return numbers
    return np.frombuffer(data, _FLOATS[dtype])


@cache
def _e4m3() -> NDArray[Any]:
    """The 256 numbers of float8_e4m3fn: a sign, 4 bits of exponent, 3 of fraction; no infinities."""
    import numpy as np

    bits = np.arange(256)
    exponent, fraction = bits >> 3 & 15, (bits & 7) / 8
    size = np.where(exponent, (1 + fraction) * 2.0 ** (exponent - 7), fraction * 2.0**-6)
    size[bits & 127 == 127] = np.nan
    return np.where(bits < 128, size, -size).astype("<f2")


def _read(file: BinaryIO, size: int, limit: int) -> Header:
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) == 8 and length > limit:
        raise HeaderError(f"its header claims {length:,} bytes")
    if length > size - 8:
        raise HeaderError("it is truncated")
    try:
        read = json.loads(file.read(length).decode())
    except (ValueError, RecursionError) as error:
        raise HeaderError("its header is not JSON") from error
    if not isinstance(read, dict):
        raise HeaderError("its header is not a JSON object")
    metadata = read.pop("__metadata__", None)
    texts = metadata.items() if isinstance(metadata, dict) else ()
    tensors = {name: _entry(name, about, 8 + length) for name, about in read.items()}
    ends = max((entry.end for entry in tensors.values()), default=8 + length)
    if ends != size:
        raise HeaderError("it is truncated" if ends > size else "it has bytes that belong to no tensor")
    for name, entry in tensors.items():
        if entry.dtype in _BYTES and entry.end - entry.start != _BYTES[entry.dtype] * prod(entry.shape):
            raise HeaderError(f"`{name[:100]!r}` has not as many bytes as its shape and format take")
    return Header({key: text for key, text in texts if isinstance(text, str)}, tensors)


def _entry(name: str, about: Any, base: int) -> TensorEntry:
    try:
        dtype, shape, (start, end) = about["dtype"], about["shape"], about["data_offsets"]
        numbers = (*shape, start, end)
        natural = {*map(type, numbers)} == {int} and min(numbers) >= 0
    except (KeyError, TypeError, ValueError):
        natural = False
    if not natural or not isinstance(dtype, str) or not isinstance(shape, list) or start > end:
        raise HeaderError(f"its header is malformed at `{name[:100]!r}`")
    return TensorEntry(dtype, tuple(shape), base + start, base + end)
