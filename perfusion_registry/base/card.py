"""What a base says of itself in `perf-base.toml`: its defaults and the names of its side files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class BaseCard(BaseModel):
    """The optional `perf-base.toml` of a base folder.

    train, render: defaults that replace the paper's and that a recipe replaces; keys as in a recipe's tables, and for
    render also steps, guidance, width and height. clip: the subfolder of the CLIP model that scores pictures.
    covariance: the file of the covariance that ships with the base.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: dict[str, Any] = {}
    render: dict[str, Any] = {}
    clip: str = "clip"
    covariance: str = "covariance.safetensors"

    @classmethod
    def read(cls, folder: Path) -> BaseCard:
        """The card in `folder`, or an empty one. Raises PerfError for a card that cannot be read."""
        raise NotImplementedError
