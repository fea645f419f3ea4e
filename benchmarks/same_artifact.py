"""Whether two artifact files say the same: tensor by tensor to the bit, card field by field.

It reads the files themselves and imports nothing of perf, so that it can compare what two versions of it
wrote. Where a later format gives things other names, a mapping says which:

    {
      "tensors": {"output.": "offset."},
      "card": {"covariance": "built.covariance"},
      "new": ["requires_perf"]
    }

tensors: how names begin, before and after. card: keys, with dots inside of tables. new: keys of which nothing
was said before, or which are to differ. A tensor that is stored as an offset is compared by what it stands
for: `plain` has, by its name before, what has to be added to it. Then the last bit of fp16 is rounding, and
may differ.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8", "I32": "<i4", "U8": "u1"}
Plain = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Names:
    """What is called otherwise in the second file."""

    tensors: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, str] = field(default_factory=dict)
    new: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: Path) -> Names:
        said = json.loads(path.read_text(encoding="utf-8"))
        return cls(said.get("tensors", {}), said.get("card", {}), frozenset(said.get("new", ())))

    def tensor(self, name: str) -> str:
        """What a tensor of the first file is called in the second."""
        for before, after in self.tensors.items():
            if name.startswith(before):
                return after + name[len(before) :]
        return name


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors of a safetensors file by name, and its metadata."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], _TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def tensor_differences(
    before: Path, after: Path, names: Names | None = None, plain: Plain | None = None
) -> list[str]:
    """What differs between the tensors of two files, a line for each."""
    names, plain = names or Names(), plain or {}
    old, new = read_tensors(before)[0], read_tensors(after)[0]
    pairs = {name: names.tensor(name) for name in old}
    told = [f"{pairs[name]} is missing" for name in old if pairs[name] not in new]
    told += [f"{name} is new" for name in sorted(new.keys() - pairs.values())]
    for name, value in old.items():
        other = new.get(pairs[name])
        if other is None:
            continue
        if (value.dtype, value.shape) != (other.dtype, other.shape):
            told.append(f"{name} was {value.dtype} {value.shape} and is {other.dtype} {other.shape}")
        elif name in plain:
            told += _offset(name, value, other, plain[name])
        elif value.tobytes() != other.tobytes():
            told.append(f"{name} differs by {_most(value, other):.3g}")
    return told


def _offset(name: str, value: np.ndarray, offset: np.ndarray, plain: np.ndarray) -> list[str]:
    """Compare o*_V with an offset from `plain`, where each was rounded to its type once."""
    restored = plain.astype("f8") + offset.astype("f8")
    step = np.spacing(np.maximum(np.abs(value), np.abs(offset)).astype(value.dtype)).astype("f8")
    if (np.abs(restored - value.astype("f8")) <= step).all():
        return []
    return [f"{name}, as an offset, differs by {_most(value, restored):.3g}"]


def _most(value: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(value.astype("f8") - other.astype("f8")).max())


def card_differences(before: Path, after: Path, names: Names | None = None) -> list[str]:
    """What differs between the cards of two artifacts, a line for each field."""
    names = names or Names()
    old, new = (_flat(json.loads(read_tensors(path)[1]["concept"])) for path in (before, after))
    old = {names.card.get(key, key): value for key, value in old.items()}
    told = []
    for key in sorted((old.keys() | new.keys()) - names.new):
        if key not in new:
            told.append(f"{key} is missing")
        elif key not in old:
            told.append(f"{key} is new: {new[key]!r}")
        elif (type(old[key]), old[key]) != (type(new[key]), new[key]):
            told.append(f"{key} was {old[key]!r} and is {new[key]!r}")
    return told


def _flat(value: dict[str, Any], inside: str = "") -> dict[str, Any]:
    """Tables inside of tables as keys with dots."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{inside}{key}.") if isinstance(item, dict) else {f"{inside}{key}": item}
    return flat
