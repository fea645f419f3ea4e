"""The digest of a covariance's matrix: without torch, and the same that artifacts carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from perfusion_registry.build import load_covariance
from perfusion_registry.recipe import LockedCovariance
from perfusion_registry.resolve import CovarianceFile


def digest(path: Path) -> str | None:
    return CovarianceFile(path, "0" * 64, LockedCovariance(sha256="0" * 64)).matrix


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_it_is_the_digest_that_artifacts_carry(tmp_path: Path, kind: torch.dtype) -> None:
    sample = torch.randn(50, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    C = (sample.T @ sample / 50).to(kind)
    save_file({"C": C}, tmp_path / "C.safetensors")
    assert digest(tmp_path / "C.safetensors") == load_covariance(tmp_path / "C.safetensors").digest
    if kind != torch.bfloat16:
        np.save(tmp_path / "C.npy", C.numpy())
        assert digest(tmp_path / "C.npy") == load_covariance(tmp_path / "C.npy").digest


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"\x08\0\0\0\0\0\0\0{}      ", b"x" * 100])
def test_a_file_that_is_none_has_no_digest(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "C").write_bytes(data)
    assert digest(tmp_path / "C") is None
