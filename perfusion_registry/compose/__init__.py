"""From a prompt to what the denoiser receives: grammar, composition, packed encodings, explanation.

Reading prompts and compositions needs no torch, so every name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazy import lazy_exports

if TYPE_CHECKING:
    from perfusion_registry.compose.checking import SettingSources as SettingSources
    from perfusion_registry.compose.composing import compose as compose
    from perfusion_registry.compose.composing import regated as regated
    from perfusion_registry.compose.composition import Composition as Composition
    from perfusion_registry.compose.composition import parse_composition as parse_composition
    from perfusion_registry.compose.composition import read_composition as read_composition
    from perfusion_registry.compose.concept import Concept as Concept
    from perfusion_registry.compose.concept import find_concepts as find_concepts
    from perfusion_registry.compose.concept import stored_artifacts as stored_artifacts
    from perfusion_registry.compose.contributing import targets as targets
    from perfusion_registry.compose.explained import Explanation as Explanation
    from perfusion_registry.compose.explanation import explain as explain
    from perfusion_registry.compose.packing import pack as pack
    from perfusion_registry.compose.prompt import Prompt as Prompt
    from perfusion_registry.compose.prompt import parse_prompt as parse_prompt
    from perfusion_registry.compose.prompt import unparse as unparse

_HOME = {
    "Composition": "composition",
    "Concept": "concept",
    "Explanation": "explained",
    "SettingSources": "checking",
    "Prompt": "prompt",
    "compose": "composing",
    "explain": "explanation",
    "find_concepts": "concept",
    "pack": "packing",
    "parse_composition": "composition",
    "parse_prompt": "prompt",
    "read_composition": "composition",
    "regated": "composing",
    "stored_artifacts": "concept",
    "targets": "packing",
    "unparse": "prompt",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME)
