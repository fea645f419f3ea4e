"""What is said of a picture before it is drawn, because it would surprise: lost words, gates, sizes."""

from __future__ import annotations

from perfusion_registry.compose.composing import warn_of_negative
from perfusion_registry.operations.compose import LoadedComposition
from perfusion_registry.render.control import kind_of
from perfusion_registry.render.request import RenderRequest
from perfusion_registry.reporter import Reporter

_NAMED = 4  # words that a warning names
_CLOSED = 0.25  # a gate; `editable` has it at a half, give or take what a prompt does to the word
_FAR = 1.5  # times the native side, or a part of it


def warn_before_drawing(
    loaded: LoadedComposition, request: RenderRequest, reporter: Reporter, *, sized: bool
) -> None:
    """Say what a request will lose, and what its gates and its size will do. sized: whether somebody asked
    for the size, and it is not the base's own choice or that of a picture drawn again."""
    warn_of_negative(loaded.base, request.negative, reporter)
    if loaded.base.description.guidance_rescale and not loaded.base.rescale(
        kind_of(loaded.base.description, request)
    ):
        reporter.warn(
            "this base wants its guidance rescaled, which diffusers cannot do here: expect too much contrast "
            "at a high --guidance"
        )
    if loaded.composition.concepts:
        _warn_of_gates(loaded, reporter)
    if sized:
        _warn_of_size(loaded, request, reporter)


def _warn_of_size(loaded: LoadedComposition, request: RenderRequest, reporter: Reporter) -> None:
    """Say what to expect of a size that is far from the one that the base was made for."""
    height, width = loaded.base.native_size
    shares = request.width / width, request.height / height
    said = f"the base was made for {width}x{height} pixels: at {request.width}x{request.height} expect"
    if max(shares) > _FAR:
        reporter.warn(f"{said} things twice, or joined")
    elif min(shares) < 1 / _FAR:
        reporter.warn(f"{said} rough things, or parts of them")


def _warn_of_gates(loaded: LoadedComposition, reporter: Reporter) -> None:
    """Say where a concept's gate opens by half or more at other words than its own, or hardly at its own."""
    from perfusion_registry.compose.explanation import explain

    measured = explain(loaded.base, loaded.composition, loaded.artifacts)
    for concept in measured.concepts:
        if concept.name not in measured.tokens[0].gate:
            continue
        own = f"{concept.name}*"
        others = list(dict.fromkeys(word for word in concept.opens_at if word != own))
        if others:
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            reporter.warn(
                f"the gate of {own} opens at {', '.join(others[:_NAMED])}{more} too: a higher bias closes "
                "it, and `perf explain` shows how far"
            )
        if max(row.gate[concept.name] for row in measured.tokens if row.concept == concept.name) < _CLOSED:
            reporter.warn(
                f"the gate of {own} stays closed at its own word, so the picture shows the plain word: "
                "a lower bias opens it, and `perf explain` shows how far"
            )
