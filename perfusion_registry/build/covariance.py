"""Covariances: the uncentred second moment C of a text encoder's outputs, and its file."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from perfusion_registry.build.tensorfile import parse_tensors, write_tensors
from perfusion_registry.edit import CovarianceMetric
from perfusion_registry.errors import PerfError

_KEY = "covariance"  # of the card in the safetensors header


class CovarianceCard(BaseModel):
    """Whence a covariance comes.

    corpus: hex sha256 of the captions, each in UTF-8 and followed by a zero byte, or "unknown". captions: how
    many. tokens: how many positions hold start, words or end. positions: how many positions C counts in all.
    padding: whether padding positions are among them. padding_sample: padding was computed for every how
    many-th caption. encoder: hex sha256 of the text encoder's and tokenizer's files, or "unknown".
    text_weights: of the text encoder's numbers in fp16, in whatever files they are, or "unknown". What a
    newer perf says beside these is passed over.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    corpus: str = "unknown"
    captions: int = 0
    tokens: int = 0
    positions: int = 0
    padding: Literal["all", "none", "unknown"] = "unknown"
    padding_sample: int = 1
    encoder: str = "unknown"
    text_weights: Annotated[str, Field(exclude_if=lambda digest: digest == "unknown")] = "unknown"


@dataclass(frozen=True, eq=False)
class Covariance:
    """C = mean of e e^T over encodings e (Appendix C). C: (d, d) float64 on the CPU, symmetric."""

    C: Tensor
    card: CovarianceCard

    @property
    def width(self) -> int:
        """d, the width of the encodings."""
        return int(self.C.shape[0])

    @property
    def count(self) -> int:
        """How many encodings C is the mean over; 0 when unknown."""
        return self.card.positions

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of the matrix alone, as little-endian float64 by rows: the same in every file format."""
        return hashlib.sha256(self.C.numpy().astype("<f8").tobytes()).hexdigest()

    def condition(self) -> float:
        """The ratio of C's largest to its smallest eigenvalue; inf when C is singular."""
        eigenvalues = torch.linalg.eigvalsh(self.C)
        smallest = float(eigenvalues[0])
        return float(eigenvalues[-1]) / smallest if smallest > 0 else float("inf")

    def metric(self, ridge: float = 0.01) -> CovarianceMetric:
        """The inner product of C^-1, after a ridge of that fraction of C's mean diagonal."""
        return CovarianceMetric(self.C, ridge)


def save_covariance(covariance: Covariance, path: Path) -> None:
    """Write a covariance as one safetensors file: the matrix `C` and its card, byte for byte repeatable."""
    write_tensors(path, {"C": covariance.C}, _KEY, covariance.card.model_dump_json())


def load_covariance(path: Path, width: int | None = None) -> Covariance:
    """Read a covariance from a file of `save_covariance`, or a bare matrix from `.npy` or safetensors.

    width: the d that it must have. A bare matrix has a card that says "unknown".
    Raises PerfError for a file that is not such a matrix: not square, of another width, not finite, not
    symmetric, or not positive definite even with a ridge.
    """
    where = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PerfError(f"Cannot read the covariance: {error.strerror or error}", where=where) from error
    C, card = _from_npy(data, where) if data[:6] == b"\x93NUMPY" else _from_safetensors(data, where)
    _check(C, width, where)
    C = C.to(torch.float64)
    return Covariance((C + C.T) / 2, card)


def _from_npy(data: bytes, where: str) -> tuple[Tensor, CovarianceCard]:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise PerfError(f"The covariance is not a readable .npy file: {error}", where=where) from error
    if array.dtype.kind != "f":
        raise PerfError(f"The covariance holds {array.dtype}, not floating-point numbers", where=where)
    return torch.from_numpy(array.astype(np.float64)), CovarianceCard()


def _from_safetensors(data: bytes, where: str) -> tuple[Tensor, CovarianceCard]:
    tensors, text = parse_tensors(data, _KEY, where)
    matrix = tensors.get("C") if len(tensors) != 1 else next(iter(tensors.values()))
    if matrix is None:
        raise PerfError("The file holds several tensors and none is called C", where=where)
    if not matrix.is_floating_point():
        raise PerfError(f"The covariance holds {matrix.dtype}, not floating-point numbers", where=where)
    try:
        return matrix, CovarianceCard() if text is None else CovarianceCard.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        what = f"The covariance's card is not valid at `{key}`: {first['msg']}"
        raise PerfError(what, where=where) from error


def _check(C: Tensor, width: int | None, where: str) -> None:
    shape = " x ".join(map(str, C.shape)) or "one number"
    if C.ndim != 2 or C.shape[0] != C.shape[1] or C.shape[0] == 0:
        raise PerfError(f"A covariance is a square matrix; this one is {shape}", where=where)
    if width is not None and C.shape[0] != width:
        what = f"The covariance is {shape}, but the base's text encoder has width {width}"
        raise PerfError(
            what, where=where, hint="estimate one for this base: perf covariance CAPTIONS --out FILE"
        )
    if not bool(torch.isfinite(C).all()):
        raise PerfError("The covariance holds values that are not finite", where=where)
    if float((C - C.T).abs().max()) > 1e-3 * float(C.abs().max()):
        raise PerfError("The covariance is not symmetric", where=where)
    try:
        CovarianceMetric(C)
    except ValueError as error:
        raise PerfError(f"The covariance cannot be used: {error}", where=where) from error
