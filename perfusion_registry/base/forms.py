"""In which form a base is given edited prompts: packed, or the thin one (`base.thin`). Importing this needs
no torch.

Packed costs a second copy W of all text projections, and the products with it once for each prompt. The thin
form has none, and costs in each step what these layers cost in the unedited model.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, get_args

from perfusion_registry.errors import PerfError

if TYPE_CHECKING:
    import torch

    from perfusion_registry.base.bank import Bank

Form = Literal["packed", "thin"]

VARIABLE = "PERF_FORM"
SMALL = 1 / 50
"""W is small where it is at most this part of a GPU's memory: SD 1.5's 73 MiB anywhere, SDXL's 1.3 GiB on
none below 64 GiB."""
ASSUMED = 8 * 2**30
"""Bytes of a GPU that does not tell its memory."""


def read_form(said: str, where: str) -> Form:
    """The form of that name. where: who says it. Raises PerfError where there is none."""
    for form in get_args(Form):
        if said == form:
            found: Form = form
            return found
    raise PerfError(f"there is no form {said!r}", where=where, hint="use packed or thin, or leave it out")


def asked_form() -> Form | None:
    """What `PERF_FORM` says; None where it says nothing. Raises PerfError where that is no form."""
    said = os.environ.get(VARIABLE)
    return read_form(said, VARIABLE) if said else None


def form_of(bank: Bank) -> Form:
    """The form that a bank's prompts are drawn in: what `PERF_FORM` says; else packed where W is in the
    processor's memory, or small beside the GPU's; and thin where it is large, or where a projection is not
    plain, so that there is no W.

    Raises PerfError where `PERF_FORM` is neither.
    """
    asked = asked_form()
    if asked is not None:
        return asked
    if not bank.is_plain:
        return "thin"
    if bank.device.type == "cpu":
        return "packed"
    size = 4 * bank.emitted_width * bank.width
    return "packed" if size <= SMALL * _memory(bank.device) else "thin"


def _memory(device: torch.device) -> int:
    """The bytes of a GPU's memory, as far as it tells."""
    import torch

    if device.type != "cuda":
        return ASSUMED
    try:
        return int(torch.cuda.get_device_properties(device).total_memory)
    except (AssertionError, RuntimeError):
        return ASSUMED
