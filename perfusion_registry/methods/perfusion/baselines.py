"""What Eq. 4 is compared with: other edits of what K and V emit (Sections 4.1.3, 4.2 and 6.1).

`rome` is Eq. 1 for each concept, the edits added: for several concepts the naive sum of Section 4.2.
`ungated` is Eq. 2, with one projection for all concepts and the similarity itself for a gate. `index` is the
naive replacement of Section 4.1.3, o* at the concept's token and nothing anywhere else. Gates have no say in
any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.options import DrawOptions

if TYPE_CHECKING:
    from torch import Tensor

    from perfusion_registry.methods.contribution import Targets

BASELINES = ("rome", "ungated", "index")


def mistake(baseline: str, draw: DrawOptions) -> PerfError | None:
    """What keeps a concept with these options from being drawn by a baseline: a global lock is no edit."""
    if draw.key_lock != "global":
        return None
    return PerfError(
        f"the baseline {baseline!r} has no global lock", hint='set key_lock = "local" for this variant'
    )


def packed(baseline: str, E: Tensor, W: Tensor, targets: Targets, places: Mapping[int, int]) -> Tensor:
    """What K and V emit for one prompt, (n, D), of its encodings E (n, d).

    W: (D, d). places: the concept j at each token position that calls one.
    """
    from perfusion_registry import edit

    if baseline == "ungated":
        return edit.ungated(E, W, targets.I, targets.V, targets.O)
    h = E @ W.T
    if baseline == "index":
        for position, j in places.items():
            h[position] = targets.O[j]
        return h
    # E W_hat^T with W_hat of Eq. 1 summed over j; `edit.naive_sum` has it as a weight, which needs C.
    return h + edit.similarity(E, targets.I, targets.V) @ (targets.O - targets.I @ W.T)
