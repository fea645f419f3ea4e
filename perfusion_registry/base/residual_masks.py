"""Where a residual may apply. Importing this needs no torch."""

from __future__ import annotations

from typing import Literal

Mask = Literal["ramp", "median", "off"]
"""Where a residual applies, by the attention to its tokens: `ramp`, from a quarter to half of the greatest,
and where no other concept's is greater; `median`, the paper's, where it is at least its median; `off`, the
paper's normal sampling, everywhere in all samples, marked or not."""
