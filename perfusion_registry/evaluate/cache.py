"""What evaluations keep on this machine: pictures, attention maps and scores, each under a digest of all that
changes it.

    evaluation/pictures/<aa>/<key>.png       a picture
    evaluation/attention/<aa>/<key>.png      where its concepts' tokens drew attention, in greys
    evaluation/scores/<aa>/<key>.json        what one metric after another says of it
    evaluation/costs/<aa>/<key>.json         what a training cost
    evaluation/portraits/<aa>/<key>.safetensors    what look-alikes look like

Every file is whole or absent, so a killed evaluation goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from perfusion_registry.evaluate.costs import Cost
from perfusion_registry.recipe.writing import make_folder, replace_bytes

if TYPE_CHECKING:
    from torch import Tensor

SCORING_EPOCH = 2
"""Raised whenever a change to the package changes the scores of the same picture, or the portraits of
look-alikes that it is compared with."""


@dataclass(frozen=True)
class Cache:
    """The kept files below `root`, the folder of the store."""

    root: Path

    def picture(self, key: str) -> Path:
        """Where a picture is, or would be."""
        return self._place("pictures", key, "png")

    def attention(self, key: str) -> Path:
        """Where the attention map of a picture is, or would be."""
        return self._place("attention", key, "png")

    def score_file(self, key: str) -> Path:
        """Where scores are, or would be."""
        return self._place("scores", key, "json")

    def scores(self, key: str) -> dict[str, Any] | None:
        """What was kept under `key`; None where nothing was, or nothing that can be read."""
        try:
            scores = json.loads(self.score_file(key).read_bytes())
        except (OSError, ValueError):
            return None
        return scores if isinstance(scores, dict) else None

    def cost(self, training: str) -> Cost | None:
        """What a training cost, by its digest; None where nobody measured that."""
        try:
            return Cost.model_validate_json(self._place("costs", training, "json").read_bytes())
        except (OSError, ValidationError):
            return None

    def keep_cost(self, training: str, cost: Cost) -> None:
        """Keep what a training cost."""
        self.keep(self._place("costs", training, "json"), cost.model_dump_json().encode())

    def keep(self, path: Path, data: bytes) -> None:
        """Write one file of the cache, whole or not at all."""
        make_folder(path.parent)
        replace_bytes(path, data, hint="free some space, or set PERF_CACHE_DIR")

    def keep_scores(self, key: str, scores: Mapping[str, Any]) -> None:
        """Keep the scores of `key`."""
        self.keep(self.score_file(key), json.dumps(dict(scores), sort_keys=True).encode())

    def portraits(self) -> list[Path]:
        """The files of all features that were kept."""
        return sorted((self.root / "evaluation" / "portraits").glob("*/*.safetensors"))

    def features(self, key: str) -> Tensor | None:
        """Features that were kept under `key`; None where there are none, or none that can be read."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            kept: Tensor = load(self._place("portraits", key, "safetensors").read_bytes())["features"]
            return kept
        except (OSError, SafetensorError, KeyError):
            return None

    def keep_features(self, key: str, features: Tensor) -> None:
        """Keep features under `key`."""
        from safetensors.torch import save

        self.keep(self._place("portraits", key, "safetensors"), save({"features": features.contiguous()}))

    def _place(self, kind: str, key: str, suffix: str) -> Path:
        return self.root / "evaluation" / kind / key[:2] / f"{key}.{suffix}"
