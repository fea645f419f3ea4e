"""Bases: the text-to-image models that concepts are built for and rendered with.

This package is the only importer of diffusers and transformers (beside the trainer of the embedded base).
Naming and describing a base needs neither those nor torch, so every name here is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazily import lazily

if TYPE_CHECKING:
    from perfusion_registry.base.attention import AttentionRecorder as AttentionRecorder
    from perfusion_registry.base.bank import Bank as Bank
    from perfusion_registry.base.bank import BankLayer as BankLayer
    from perfusion_registry.base.card import BaseCard as BaseCard
    from perfusion_registry.base.description import BaseDescription as BaseDescription
    from perfusion_registry.base.description import BaseFile as BaseFile
    from perfusion_registry.base.description import describe_base as describe_base
    from perfusion_registry.base.encoding import encode as encode
    from perfusion_registry.base.loading import Base as Base
    from perfusion_registry.base.loading import load_base as load_base
    from perfusion_registry.base.reference import BaseReference as BaseReference
    from perfusion_registry.base.residuals import Factors as Factors
    from perfusion_registry.base.residuals import block_widths as block_widths
    from perfusion_registry.base.residuals import residuals_attached as residuals_attached
    from perfusion_registry.base.scorer import Scorer as Scorer
    from perfusion_registry.base.segment import Segmenter as Segmenter
    from perfusion_registry.base.tokens import ConceptPiece as ConceptPiece
    from perfusion_registry.base.tokens import TokenisedPrompt as TokenisedPrompt
    from perfusion_registry.base.tokens import several_tokens as several_tokens
    from perfusion_registry.base.tokens import tokenise as tokenise

_HOME = {
    "AttentionRecorder": "attention",
    "Bank": "bank",
    "BankLayer": "bank",
    "Base": "loading",
    "BaseCard": "card",
    "BaseDescription": "description",
    "BaseFile": "description",
    "BaseReference": "reference",
    "ConceptPiece": "tokens",
    "Factors": "residuals",
    "Scorer": "scorer",
    "Segmenter": "segment",
    "TokenisedPrompt": "tokens",
    "block_widths": "residuals",
    "describe_base": "description",
    "encode": "encoding",
    "load_base": "loading",
    "residuals_attached": "residuals",
    "several_tokens": "tokens",
    "tokenise": "tokens",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__ = lazily(__name__, _HOME)
