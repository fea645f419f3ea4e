"""Attention of diffusers asks at each call what its processor takes, which lasts as long as a tiny one
computes: a tenth of a training of the tests' bases. Here that is worked out once."""

from __future__ import annotations

import inspect
import sys


def keep_signatures() -> None:
    """Let the processors of the models of diffusers that are imported know their signatures (PEP 362)."""
    modules = [module for name, module in sys.modules.items() if name.startswith("diffusers.models.")]
    for kind in [kind for module in modules for kind in vars(module).values()]:
        if isinstance(kind, type) and "Processor" in kind.__name__ and "__call__" in vars(kind):
            kind.__call__.__signature__ = inspect.signature(kind.__call__)  # type: ignore[attr-defined]
