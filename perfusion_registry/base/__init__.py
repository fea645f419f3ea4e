"""Bases: the text-to-image models that concepts are built for and rendered with.

This package is the only importer of diffusers and transformers (beside the trainer of the embedded base).
Naming and describing a base needs neither those nor torch, so every name here is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazy import lazy_exports

if TYPE_CHECKING:
    from perfusion_registry.base.adaptation import Adaptation as Adaptation
    from perfusion_registry.base.adaptation import Applied as Applied
    from perfusion_registry.base.attention import AttentionRecorder as AttentionRecorder
    from perfusion_registry.base.bank import Bank as Bank
    from perfusion_registry.base.bank import BankLayer as BankLayer
    from perfusion_registry.base.card import BaseCard as BaseCard
    from perfusion_registry.base.changes import Change as Change
    from perfusion_registry.base.changes import Changes as Changes
    from perfusion_registry.base.changes import module_at as module_at
    from perfusion_registry.base.conditioning import Conditioning as Conditioning
    from perfusion_registry.base.conditioning import InPooledToo as InPooledToo
    from perfusion_registry.base.conditioning import Rows as Rows
    from perfusion_registry.base.description import as_drawn as as_drawn
    from perfusion_registry.base.description import check_base as check_base
    from perfusion_registry.base.description import describe_base as describe_base
    from perfusion_registry.base.description import require_trainable as require_trainable
    from perfusion_registry.base.forms import Form as Form
    from perfusion_registry.base.identity import BaseDescription as BaseDescription
    from perfusion_registry.base.identity import BaseFile as BaseFile
    from perfusion_registry.base.identity import BaseIdentity as BaseIdentity
    from perfusion_registry.base.interface import Base as Base
    from perfusion_registry.base.loading import load_base as load_base
    from perfusion_registry.base.loading import load_tokenizer as load_tokenizer
    from perfusion_registry.base.loading import wrap as wrap
    from perfusion_registry.base.options import BaseOptions as BaseOptions
    from perfusion_registry.base.options import SaidOfBase as SaidOfBase
    from perfusion_registry.base.prediction import Asked as Asked
    from perfusion_registry.base.readers import beside as beside
    from perfusion_registry.base.reference import BaseReference as BaseReference
    from perfusion_registry.base.residual_masks import Mask as Mask
    from perfusion_registry.base.residuals import Factors as Factors
    from perfusion_registry.base.residuals import block_widths as block_widths
    from perfusion_registry.base.residuals import marked as marked
    from perfusion_registry.base.scorer import Scorer as Scorer
    from perfusion_registry.base.segment import Segmenter as Segmenter
    from perfusion_registry.base.thin import Thin as Thin
    from perfusion_registry.base.tokens import ChunkEnd as ChunkEnd
    from perfusion_registry.base.tokens import ConceptPiece as ConceptPiece
    from perfusion_registry.base.tokens import Tokens as Tokens

_HOME = {
    "Adaptation": "adaptation",
    "Applied": "adaptation",
    "Asked": "prediction",
    "AttentionRecorder": "attention",
    "Bank": "bank",
    "BankLayer": "bank",
    "Base": "interface",
    "BaseCard": "card",
    "BaseDescription": "identity",
    "BaseFile": "identity",
    "BaseIdentity": "identity",
    "BaseOptions": "options",
    "BaseReference": "reference",
    "ChunkEnd": "tokens",
    "Change": "changes",
    "Changes": "changes",
    "ConceptPiece": "tokens",
    "Conditioning": "conditioning",
    "Factors": "residuals",
    "Form": "forms",
    "InPooledToo": "conditioning",
    "Mask": "residual_masks",
    "Rows": "conditioning",
    "SaidOfBase": "options",
    "Scorer": "scorer",
    "Segmenter": "segment",
    "Thin": "thin",
    "Tokens": "tokens",
    "as_drawn": "description",
    "beside": "readers",
    "block_widths": "residuals",
    "check_base": "description",
    "describe_base": "description",
    "load_base": "loading",
    "load_tokenizer": "loading",
    "marked": "residuals",
    "module_at": "changes",
    "require_trainable": "description",
    "wrap": "loading",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME)
