"""Building: captions -> covariance, images and masks -> a trained concept.

The plan of a build needs `TRAINER_EPOCH` and no torch, so every name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazy import lazy_exports

if TYPE_CHECKING:
    from perfusion_registry.build.captions import read_captions as read_captions
    from perfusion_registry.build.concept import ConceptSources as ConceptSources
    from perfusion_registry.build.concept import build_concept as build_concept
    from perfusion_registry.build.covariance import Covariance as Covariance
    from perfusion_registry.build.covariance import load_covariance as load_covariance
    from perfusion_registry.build.covariance import save_covariance as save_covariance
    from perfusion_registry.build.epoch import TRAINER_EPOCH as TRAINER_EPOCH
    from perfusion_registry.build.estimation import estimate_covariance as estimate_covariance
    from perfusion_registry.build.gates import gate_report as gate_report

_HOME = {
    "TRAINER_EPOCH": "epoch",
    "ConceptSources": "concept",
    "Covariance": "covariance",
    "build_concept": "concept",
    "estimate_covariance": "estimation",
    "gate_report": "gates",
    "load_covariance": "covariance",
    "read_captions": "captions",
    "save_covariance": "covariance",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME)
