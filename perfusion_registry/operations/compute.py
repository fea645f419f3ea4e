"""Where an operation computes, and with which numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perfusion_registry.base.forms import asked_form
from perfusion_registry.base.offload_kinds import Offload, read_offload, said_by_variable
from perfusion_registry.errors import PerfError


@dataclass(frozen=True)
class ComputeOptions:
    """Where to compute, and with which numbers: names as `load_base` takes them. threads: that this process
    was asked to have; None where nobody asked, and an interrupted training goes on with as many as it had.
    offload: what of a base is on the device only while it computes; None: nothing, all of it is there. What
    the environment alone says of it gives way to a device by name that is no GPU.
    """

    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    offload: Offload | None = None

    def __post_init__(self) -> None:
        """Raise PerfError for what is no name of a device or of a number format, and where `PERF_FORM` is no
        form, before torch is imported."""
        check_device(self.device)
        check_dtype(self.dtype)
        read_offload(self.offload)
        asked_form()
        if self.device in ("cpu", "mps") and said_by_variable(self.offload):
            object.__setattr__(self, "offload", None)


def check_device(name: str) -> str:
    """The name, if it could be that of a device. Raises PerfError."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name) is None:
        raise PerfError(
            f"there is no device called {name!r}", where="--device", hint="use auto, cuda, cuda:1, mps or cpu"
        )
    return name


def check_dtype(name: str) -> str:
    """The name, if it is that of a number format. Raises PerfError."""
    if name not in ("auto", "fp32", "float32", "bf16", "bfloat16", "fp16", "float16"):
        raise PerfError(
            f"{name!r} is not a number format", where="--dtype", hint="use auto, fp32, bf16 or fp16"
        )
    return name
