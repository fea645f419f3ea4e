"""The golden base: a Stable Diffusion folder of a few hundred kilobytes, the same bytes on every machine.

Its configurations, its tokenizer and the names and shapes of its tensors are kept in `format1/base`; the
numbers come from a hash, so no version of torch, diffusers or transformers has a say in them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import shutil
import struct
from pathlib import Path

import numpy as np

KEPT = Path(__file__).parent / "format1" / "base"
SHAPES = "tensors.json.gz"


def assemble_base(folder: Path) -> Path:
    """Write the golden base to `folder`, which is new; returns it."""
    shutil.copytree(KEPT, folder, ignore=shutil.ignore_patterns(SHAPES))
    for file in (folder / "tokenizer").iterdir():
        if file.name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(file, folder / "clip" / file.name)
    shapes = json.loads(gzip.decompress((KEPT / SHAPES).read_bytes()))
    for path, tensors in shapes.items():
        (folder / f"{path}.safetensors").write_bytes(_weights(path, tensors))
    return folder


def _weights(path: str, tensors: dict[str, list[int]]) -> bytes:
    """A safetensors file of these shapes, fp32."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blocks: list[bytes] = []
    begin = 0
    for name in sorted(tensors):
        blocks.append(_tensor(f"{path}/{name}", name, tensors[name]).tobytes())
        end = begin + len(blocks[-1])
        header[name] = {"dtype": "F32", "shape": tensors[name], "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(blocks)


def _tensor(seed: str, name: str, shape: list[int]) -> np.ndarray:
    """Weights spread evenly around 0, by the number of inputs; norms are 1 and 0."""
    if len(shape) < 2 and name != "logit_scale" and not name.endswith("class_embedding"):
        return np.full(shape, 0.0 if name.endswith("bias") else 1.0, "<f4")
    count = math.prod(shape)
    words = np.frombuffer(hashlib.shake_256(seed.encode()).digest(4 * count), "<u4")
    # 24 bits are exact in fp32, and so is everything that is done with them up to one rounding.
    even = (words >> np.uint32(8)).astype("<f4") / np.float32(2**23) - np.float32(1)
    inputs = 16 if "embedding" in name else math.prod(shape[1:]) or 1
    return (even * np.float32(math.sqrt(3 / inputs))).astype("<f4").reshape(shape)
