"""The gates, key locks and strengths of residuals that `perf tune` may choose from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perfusion_registry.methods.perfusion.options import DrawOptions, SceneLock
from perfusion_registry.methods.residuals.options import STRENGTHS
from perfusion_registry.methods.settings import Value

LOCAL_BIASES = (0.45, 0.55, 0.65, 0.75)
GLOBAL_BIASES = (0.4, 0.5, 0.6)
TEMPERATURES = (0.1, 0.15)
"""What is tried where nothing else is asked for: the paper's ranges (Section 4.4), and below to what its
Figures 1 and 5 take for several concepts (Appendix H)."""


def search_space(
    now: DrawOptions, choices: Mapping[str, Sequence[Value]], *, trained_keys: bool
) -> list[DrawOptions]:
    """The options to try for a concept, local lock first.

    choices: by field; what it leaves out is the paper's ranges, every lock that the concept can have, and its
    residual as strong as it is. Other strengths, which are not the paper's, are tried with the gate as it is,
    since with each gate they would multiply the choices.
    """
    locks: list[SceneLock] = ["local", "global"]
    if trained_keys:
        locks.append("none")
    strengths = [now.residual] if now.residual is None else choices.get("residual") or [now.residual]
    gates = [
        DrawOptions.model_validate(
            {kind: bias, "temperature": temperature, "key_lock": lock, "residual": strength}
        )
        for lock in locks
        if not choices.get("key_lock") or lock in choices["key_lock"]
        for kind, bias in _biases(choices, lock)
        for temperature in choices.get("temperature") or TEMPERATURES
        for strength in strengths
    ]
    asked = ("bias", "relative_bias", "temperature", "key_lock")
    allowed = all(not choices.get(key) or getattr(now, key) in choices[key] for key in asked)
    if now.residual is None or choices.get("residual") or not allowed:
        return gates
    others = [strength for strength in STRENGTHS if strength != now.residual]
    return [*gates, *(now.model_copy(update={"residual": strength}) for strength in others)]


def _biases(choices: Mapping[str, Sequence[Value]], lock: SceneLock) -> list[tuple[str, Value]]:
    """The biases to try under a lock, of the kinds that are asked for."""
    asked = [(kind, bias) for kind in ("bias", "relative_bias") for bias in choices.get(kind) or ()]
    usual = GLOBAL_BIASES if lock == "global" else LOCAL_BIASES
    return asked or [("bias", bias) for bias in usual]
