"""`explain`: token by token, which concept's gate opens, and how far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.explained import Explanation
from perfusion_registry.methods.perfusion.presets import PRESETS, GatePreset
from perfusion_registry.operations.compose import PromptOptions, load_prompt
from perfusion_registry.operations.result import InProcess, Result, named
from perfusion_registry.operations.workspace import Workspace

if TYPE_CHECKING:
    from perfusion_registry.base import Base


class ExplainResult(Explanation, Result):
    """`perf explain`: a row per token, with its similarity to each concept and how open its gate is.

    composition: what is explained.
    """

    schema_: Literal["perf.explain/1"] = named("perf.explain/1")
    composition: InProcess[Composition]


class PresetsResult(Result):
    """`perf explain --presets`."""

    schema_: Literal["perf.explain-presets/1"] = named("perf.explain-presets/1")
    presets: tuple[GatePreset, ...]


def explain(workspace: Workspace, options: PromptOptions, loaded: Base | None = None) -> ExplainResult:
    """Measure each token of the prompt against each of its concepts. loaded: as in `load_base`."""
    ready = load_prompt(workspace, options, loaded)

    from perfusion_registry.compose.explanation import explain as measure

    explanation = measure(ready.base, ready.composition, ready.artifacts)
    return ExplainResult(
        prompt=explanation.prompt,
        concepts=explanation.concepts,
        tokens=explanation.tokens,
        composition=ready.composition,
    )


def list_presets() -> PresetsResult:
    """The gate presets and their numbers."""
    return PresetsResult(
        presets=tuple(
            GatePreset.model_validate({"name": name, **vars(preset)}) for name, preset in PRESETS.items()
        )
    )
