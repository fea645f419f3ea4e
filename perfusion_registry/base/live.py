"""What a pipeline in memory is, for architectures to `wrap` it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perfusion_registry.base.family import family_digest, live_text_digest
from perfusion_registry.base.identity import BaseIdentity
from perfusion_registry.errors import PerfError


def live_identity(
    pipe: Any, architecture: str, encoders: Sequence[Any], layers: Sequence[tuple[str, int, int, int]]
) -> BaseIdentity:
    """What a live pipeline is, by its text encoders as they are and by the shapes of its layers.

    layers: of its cross-attention, as `family_digest` takes them. Raises PerfError where an encoder is in a
    format in which it cannot be told.
    """
    for encoder in encoders:
        if str(encoder.dtype) not in ("torch.float32", "torch.float16"):
            raise PerfError(
                f"the pipeline's text encoder is in {encoder.dtype}, which has lost too many digits to tell "
                "which concepts fit it",
                hint="load the pipeline in fp32 or fp16, or name the base that it was loaded from",
            )
    return BaseIdentity(
        repo=str(pipe.config.get("_name_or_path") or type(pipe).__name__),
        architecture=architecture,
        family=family_digest(
            [encoder.config.to_dict() for encoder in encoders],
            [live_text_digest(encoder.state_dict()) for encoder in encoders],
            layers,
        ),
    )
