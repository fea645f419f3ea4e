"""The mathematics of gated, key-locked rank-one edits: torch in, torch out.

Symbols, with the shapes of `docs/architecture.md`: encodings `E (..., n, d)`, bank matrix `W (D, d)`,
target inputs `I (J, d)`, their duals `V = I C^-1 (J, d)`, target outputs `O (J, D)`, gate biases and
temperatures `(J,)`. Any of them may carry leading batch dimensions that broadcast against those of E.
Equation numbers are those of "Key-Locked Rank One Editing for Text-to-Image Personalization"; in `residuals`
those of "Personalized Residuals for Concept-Driven Text-to-Image Generation".
"""

from perfusion_registry.edit.baselines import naive_sum, rome_weight, ungated
from perfusion_registry.edit.encodings import packed, parted
from perfusion_registry.edit.gates import gate, similarity
from perfusion_registry.edit.merging import merged
from perfusion_registry.edit.metric import CovarianceMetric
from perfusion_registry.edit.projection import basis, perpendicular
from perfusion_registry.edit.residuals import at_median, localised, residual

__all__ = [
    "CovarianceMetric",
    "at_median",
    "basis",
    "gate",
    "localised",
    "merged",
    "naive_sum",
    "packed",
    "parted",
    "perpendicular",
    "residual",
    "rome_weight",
    "similarity",
    "ungated",
]
