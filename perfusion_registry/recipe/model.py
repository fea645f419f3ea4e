"""The manner of every file model: frozen, strict about types, closed to unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class FileModel(BaseModel):
    """A value read from a file: immutable, no unknown keys, no silent conversions, no NaN."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )
