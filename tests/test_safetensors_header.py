"""The one reader of safetensors headers, against the library's own."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from perfusion_registry.resolve import ProjectFolder, find_covariance
from perfusion_registry.safetensors_header import HeaderError, TensorEntry, floats, read_header
from tests.resolve.samples import write_project

KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: name != "__metadata__"
)
tensors = st.dictionaries(
    names,
    st.tuples(st.lists(st.integers(0, 4), max_size=3), st.sampled_from(sorted(KINDS, key=str))),
    min_size=1,
    max_size=5,
)
WHOLE = save({"a": torch.ones(2, 3), "b": torch.ones(5, dtype=torch.float16)}, {"said": "something"})


def written(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@given(tensors, st.dictionaries(names, st.text(st.characters(codec="utf-8"))))
def test_it_reads_what_the_library_writes(
    tmp_path_factory: pytest.TempPathFactory, named: dict[str, Any], metadata: dict[str, str]
) -> None:
    values = {name: torch.ones(shape).to(kind) for name, (shape, kind) in named.items()}
    data = save(values, metadata)
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)
    header = read_header(data)
    assert header == read_header(path)
    assert header.metadata == metadata
    assert header.tensors.keys() == values.keys()
    with safe_open(path, "pt") as file:
        assert (file.metadata() or {}) == metadata
        for name, entry in header.tensors.items():
            assert entry.dtype == KINDS[values[name].dtype] == file.get_slice(name).get_dtype()
            assert list(entry.shape) == file.get_slice(name).get_shape()
            stored = values[name].flatten().view(torch.uint8) if values[name].numel() else torch.empty(0)
            assert data[entry.start : entry.end] == stored.numpy().tobytes()


def test_whatever_is_cut_or_added_is_refused() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(HeaderError):
            read_header(WHOLE[:length])
    with pytest.raises(HeaderError, match="belong to no tensor"):
        read_header(WHOLE + b"\0")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (written(b"{"), "not JSON"),
        (written(b"\xff"), "not JSON"),
        (written(b"[" * 50_000), "not JSON"),
        (written(b'{"a": ' + b"9" * 5000 + b"}"), "not JSON"),
        (written([]), "not a JSON object"),
        (written({"a": 1}), "malformed at `'a'`"),
        (written({"a": {"dtype": "F32", "shape": [1]}}), "malformed"),
        (written({"a": {"dtype": 3, "shape": [], "data_offsets": [0, 0]}}), "malformed"),
        (written({"a": {"dtype": "F32", "shape": "12", "data_offsets": [0, 0]}}), "malformed"),
        (written({"a": {"dtype": "F32", "shape": {}, "data_offsets": [0, 0]}}), "malformed"),
        (written({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)), "malformed"),
        (written({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4)), "malformed"),
        (written({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)), "malformed"),
        (written({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 4]}}, bytes(4)), "malformed"),
        (written({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}}, bytes(8)), "malformed"),
        (written({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**63]}}, bytes(4)), "truncated"),
    ],
)
def test_what_is_malformed_is_refused_in_words(data: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(data)
    for source in (data, tmp_path / "file"):
        with pytest.raises(HeaderError, match=why):
            read_header(source)


def test_a_limit_holds_before_anything_is_read(tmp_path: Path) -> None:
    size = struct.unpack("<Q", WHOLE[:8])[0]
    assert read_header(WHOLE, limit=size).tensors.keys() == {"a", "b"}
    with pytest.raises(HeaderError, match=f"claims {size:,} bytes"):
        read_header(WHOLE, limit=size - 1)
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.write(struct.pack("<Q", 2**39))
        file.truncate(2**40)
    with pytest.raises(HeaderError, match="claims"):
        read_header(huge)
    with pytest.raises(OSError, match="No such file"):
        read_header(tmp_path / "none")


def test_metadata_that_is_not_text_is_left_out() -> None:
    assert read_header(written({"__metadata__": {"a": "b", "c": 1}})).metadata == {"a": "b"}
    assert read_header(written({"__metadata__": 7})).metadata == {}


def test_every_float_of_two_bytes_is_widened_as_torch_does() -> None:
    every = np.arange(2**16, dtype="<u2")
    for dtype, kind in (("BF16", torch.bfloat16), ("F16", torch.float16)):
        expected = torch.from_numpy(every.view("<i2").copy()).view(kind).float().numpy()
        np.testing.assert_array_equal(floats(every.tobytes(), dtype).astype("<f4"), expected)
    assert floats(np.arange(3.0).tobytes(), "F64").tolist() == [0, 1, 2]
    with pytest.raises(KeyError):
        floats(b"", "I64")


@pytest.mark.parametrize(
    "named", [{"C": torch.bfloat16}, {"C": torch.float32, "other": torch.float32}, {"K": torch.float64}]
)
def test_a_covariance_has_the_digest_that_its_loader_gives_it(
    named: dict[str, torch.dtype], tmp_path: Path
) -> None:
    from perfusion_registry.build import load_covariance

    root = write_project(tmp_path)
    matrix = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    (root / "C.safetensors").write_bytes(
        save({name: matrix.clone().to(kind) for name, kind in named.items()})
    )
    found = find_covariance(ProjectFolder.read(root), None)
    assert found.matrix == load_covariance(root / "C.safetensors").digest


def test_it_needs_no_torch_and_no_numpy() -> None:
    program = (
        "import sys; from perfusion_registry.safetensors_header import read_header; "
        "assert read_header(sys.stdin.buffer.read()).tensors; "
        "print(sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], input=WHOLE, capture_output=True, check=True)
    assert run.stdout == b"[]\n"


def test_entries_are_places_in_the_file() -> None:
    entry = read_header(WHOLE).tensors["b"]
    assert entry == TensorEntry("F16", (5,), entry.start, entry.start + 10)
