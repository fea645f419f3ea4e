"""Perfusion's settings: the gate, the key lock, the strength of a residual, and presets for gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from perfusion_registry.methods.perfusion.options import PresetName, SceneLock
from perfusion_registry.methods.perfusion.presets import PRESETS
from perfusion_registry.methods.residuals.options import STRENGTH
from perfusion_registry.methods.settings import Setting, Settings, Value
from perfusion_registry.recipe.options import Bias, Temperature

SETTINGS = (
    Setting("bias", Bias, ".55"),
    Setting("temperature", Temperature, ".15"),
    Setting("lock", SceneLock, "global", field="key_lock", noun="key lock", usual="local"),
    STRENGTH,
    Setting("preset", PresetName, "faithful"),
)


@dataclass(frozen=True, eq=False)
class Gate(Mapping[str, Value]):
    """What one place sets of a concept's gate; None leaves the value to the next place in line. As a mapping
    it has what is not None.

    bias, temperature: beta and tau of Eq. 3 and Eq. 4. key_lock: where the concept's keys come from.
    residual: how strongly its residual applies, where it has one. preset: stands for the bias and temperature
    that the same place leaves unset.
    """

    bias: float | None = None
    temperature: float | None = None
    key_lock: SceneLock | None = None
    residual: float | None = None
    preset: PresetName | None = None

    @classmethod
    def of(cls, settings: Settings) -> Gate:
        """The settings of a place; they are known to be perfusion's, and checked."""
        return settings if isinstance(settings, Gate) else cls(**settings)  # type: ignore[arg-type]

    def __getitem__(self, field: str) -> Value:
        """What is set of a field."""
        if field not in vars(self) or (value := getattr(self, field)) is None:
            raise KeyError(field)
        setting: Value = value
        return setting

    def __iter__(self) -> Iterator[str]:
        """The fields that are set."""
        return (field for field, value in vars(self).items() if value is not None)

    def __len__(self) -> int:
        """How many are set."""
        return sum(1 for _ in self)

    def over(self, other: Gate) -> Gate:
        """Return this gate with its unset values taken from `other`, the next place in line.

        A preset decides bias and temperature, so what later places say of these counts no more.
        """
        if self.preset is not None:
            other = replace(other, bias=None, temperature=None, preset=None)
        return self.beside(other)

    def beside(self, other: Gate) -> Gate:
        """Return this gate with its unset values taken from `other`, of the same place."""
        unset = {key: value for key, value in vars(other).items() if getattr(self, key) is None}
        return replace(self, **unset)

    def settled(self) -> Gate:
        """Return this gate with its preset's numbers instead of its name; a preset needs the key lock."""
        if self.preset is None:
            return self
        preset, lock = PRESETS[self.preset], self.key_lock or "local"
        meant = Gate(bias=preset.bias(lock), temperature=preset.temperature)
        return replace(self, preset=None).beside(meant)
