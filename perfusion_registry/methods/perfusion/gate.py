"""Perfusion's settings: the gate, the key lock, the strength of a residual, and presets for gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.options import PresetName, SceneLock
from perfusion_registry.methods.perfusion.presets import GLOBAL_BIAS, PRESETS
from perfusion_registry.methods.residuals.options import STRENGTH
from perfusion_registry.methods.settings import Setting, Settings, Value
from perfusion_registry.recipe.options import Bias, RelativeBias, Temperature

SETTINGS = (
    Setting("bias", Bias, ".55"),
    Setting("relative_bias", RelativeBias, ".9", instead_of="bias", null=False),
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
    that the same place leaves unset. relative_bias: stands for the bias, as a share of the similarity of the
    concept's own word; no place says both.
    """

    bias: float | None = None
    temperature: float | None = None
    key_lock: SceneLock | None = None
    residual: float | None = None
    preset: PresetName | None = None
    relative_bias: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> Gate:
        """The settings of a place; they are known to be perfusion's, and checked. Raises PerfError, without a
        place, for both biases.
        """
        gate = settings if isinstance(settings, Gate) else cls(**settings)  # type: ignore[arg-type]
        if gate.bias is not None and gate.relative_bias is not None:
            raise PerfError(
                "bias and relative_bias both say how alike a word must be",
                hint="say one: relative_bias=1 opens the gate by half at the concept's own word",
            )
        return gate

    @property
    def biased(self) -> bool:
        """Whether a bias is said, in either way or by a preset."""
        return (self.bias, self.relative_bias, self.preset) != (None, None, None)

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

        A preset decides bias and temperature, so what later places say of these counts no more; and a bias of
        either kind takes the place of the other.
        """
        if self.preset is not None:
            other = replace(other, bias=None, relative_bias=None, temperature=None, preset=None)
        elif self.bias is not None or self.relative_bias is not None:
            other = replace(other, bias=None, relative_bias=None)
        return self.beside(other)

    def over_own(self, own: Gate) -> Gate:
        """Return this gate over that of the concept itself. Where it sets a global lock and nothing of a
        bias, and the concept's own is for another lock, the bias is the paper's for a global one.
        """
        if self.key_lock == "global" != own.key_lock and not self.biased:
            own = replace(own, bias=GLOBAL_BIAS, relative_bias=None)
        return self.over(own)

    def beside(self, other: Gate) -> Gate:
        """Return this gate with its unset values taken from `other`, of the same place."""
        unset = {key: value for key, value in vars(other).items() if getattr(self, key) is None}
        return replace(self, **unset)

    def settled(self) -> Gate:
        """Return this gate with its preset's numbers instead of its name; a preset needs the key lock."""
        if self.preset is None:
            return self
        preset, lock = PRESETS[self.preset], self.key_lock or "local"
        meant = Gate(temperature=preset.temperature)
        if self.bias is None and self.relative_bias is None:
            meant = replace(meant, relative_bias=preset.relative_bias(lock))
        return replace(self, preset=None).beside(meant)
