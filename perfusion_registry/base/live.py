"""What a pipeline in memory is, for architectures to `wrap` it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfusion_registry.base.family import family_digest, live_model_digest, live_text_digest
from perfusion_registry.base.identity import BaseIdentity
from perfusion_registry.errors import PerfError


def live_identity(
    pipe: Any,
    architecture: str,
    encoders: Sequence[Any],
    layers: Sequence[tuple[str, int, int, int]],
    parts: Sequence[tuple[Any, str]] = (),
) -> BaseIdentity:
    """What a live pipeline is, by its text encoders as they are and by the shapes of its layers.

    layers: of its cross-attention, as `family_digest` takes them. parts: models that text passes
    through, each with what the names of its tensors that count begin with; by default the text encoders.
    Raises PerfError where an encoder is in a
    format in which it cannot be told.
    """
    for encoder in (*encoders, *(model for model, _ in parts)):
        if str(encoder.dtype) not in ("torch.float32", "torch.float16"):
            raise PerfError(
                f"the pipeline's {type(encoder).__name__} is in {encoder.dtype}, which has lost too many "
                "digits to tell which concepts fit it",
                hint="load the pipeline in fp32 or fp16, or name the base that it was loaded from",
            )
    return BaseIdentity(
        repo=str(pipe.config.get("_name_or_path") or type(pipe).__name__),
        architecture=architecture,
        family=family_digest(
            [_configuration(encoder) for encoder in encoders],
            [live_model_digest(model.state_dict(), prefix) for model, prefix in parts]
            or [live_text_digest(encoder.state_dict()) for encoder in encoders],
            layers,
        ),
    )


def _configuration(encoder: Any) -> Mapping[str, Any]:
    """Of a model of transformers or of diffusers."""
    to_dict = getattr(encoder.config, "to_dict", None)
    told: Mapping[str, Any] = to_dict() if to_dict else encoder.config
    return told
