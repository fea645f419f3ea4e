"""The files of a base, as diffusers saves it in a folder; read without torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.family import text_digest
from perfusion_registry.base.kinds import no_base
from perfusion_registry.base.weights import tensor_entries, weight_files, weight_variants
from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import TensorEntry

INDEX = "model_index.json"
MODULAR_INDEX = "modular_model_index.json"
"""Of a modular pipeline of diffusers."""
_INCOMPLETE = "fetch the base again; something of it is missing or damaged"


@dataclass(frozen=True)
class BaseFiles:
    """A base's folder, as far as an architecture has to look into it.

    variants: the name under which each model's weights are taken; None for the plain one. left_out: how many
    layers are left out of the end of each text encoder. text_marks: digests of what is fused into them.
    """

    folder: Path
    variants: Mapping[str, str | None] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    text_marks: tuple[str, ...] = ()

    @cached_property
    def index(self) -> Mapping[str, Any]:
        """`model_index.json`, or a modular pipeline's. Raises PerfError when it is broken; when there is
        none, with what is there."""
        return _read_json(self._index)

    @property
    def _index(self) -> Path:
        for name in (INDEX, MODULAR_INDEX):
            if (self.folder / name).is_file():
                return self.folder / name
        raise no_base(self.folder)

    @property
    def components(self) -> Collection[str]:
        """The components that the base has, as its index says: null is none."""
        return [name for name, kind in self.classes.items() if kind is not None]

    @cached_property
    def classes(self) -> Mapping[str, str | None]:
        """The class of each component that the index names, such as `vae`. Raises PerfError where it names
        anything but a library and a class, or null for both."""
        named = {name: _as_pair(said) for name, said in self.index.items() if isinstance(said, list)}
        for name, said in named.items():
            if len(said) != 2 or [type(one) for one in said] not in ([str, str], [type(None)] * 2):
                raise PerfError(
                    f"the base's index does not say which class its `{name}` has",
                    where=str(self._index),
                    hint=_INCOMPLETE,
                )
        return {name: said[1] for name, said in named.items()}

    @property
    def card(self) -> BaseCard:
        """What the base says of itself. Raises PerfError for a card that cannot be read."""
        return BaseCard.read(self.folder)

    def place(self, component: str) -> str:
        """Where a component is, for errors."""
        return str(self.folder / component)

    def configuration(self, component: str) -> Mapping[str, Any]:
        """The `config.json` of a component, without the layers that are left out. Raises PerfError when it is
        missing or broken."""
        config, fewer = _read_json(self.folder / component / "config.json"), self.left_out.get(component, 0)
        return {**config, "num_hidden_layers": config["num_hidden_layers"] - fewer} if fewer else config

    @property
    def scheduler(self) -> Mapping[str, Any]:
        """The scheduler's configuration. Raises PerfError when it is missing or broken."""
        return _read_json(self.folder / "scheduler" / "scheduler_config.json")

    def weights(self, model: str) -> tuple[Path, ...]:
        """The safetensors files of a model, and their index if they are several. Raises PerfError where it
        has none."""
        folder = self.folder / model
        paths = weight_files(folder, self.variants.get(model))
        if not paths:
            pickled = any(folder.glob("*.bin"))
            raise PerfError(
                f"the base's {model} has no safetensors weights" + (", only pickled ones" if pickled else ""),
                where=str(folder),
                hint="convert them to safetensors; perf never opens pickles" if pickled else _INCOMPLETE,
            )
        return paths

    def tensor_files(self, model: str) -> tuple[Path, ...]:
        """Its safetensors files alone."""
        return tuple(path for path in self.weights(model) if path.suffix == ".safetensors")

    def tensors(self, model: str) -> Mapping[str, TensorEntry]:
        """Its tensors by name. Raises PerfError when a file is cut or malformed."""
        return {
            name: entry for path in self.tensor_files(model) for name, entry in tensor_entries(path).items()
        }

    def text_digests(self, component: str) -> list[str]:
        """The digest of each file of a text encoder, as `family_digest` takes it, and of what is fused into
        it."""
        layers = self.configuration(component)["num_hidden_layers"] if self.left_out.get(component) else None
        return [*(text_digest(path, layers) for path in self.tensor_files(component)), *self.text_marks]

    def with_variants(self, models: Sequence[str]) -> BaseFiles:
        """The same, each of `models` under a name under which it has weights: one that all have, if there is
        one, and the plain one before others."""
        there = {model: weight_variants(self.folder / model) for model in models}
        shared = [name for name in next(iter(there.values())) if all(name in own for own in there.values())]
        chosen = {model: shared[0] if shared else own[0] for model, own in there.items() if own}
        return replace(self, variants=chosen)

    def is_complete(self, models: Sequence[str]) -> bool:
        """Whether a (perhaps partly downloaded) folder has the weights of all of `models`."""
        return all(
            any(
                all(path.is_file() for path in weight_files(self.folder / model, name))
                for name in weight_variants(self.folder / model)
            )
            for model in models
        )


def _as_pair(said: list[Any]) -> list[Any]:
    """A modular pipeline's index also says where each component is from, and has its class there where it was
    not loaded when the index was saved."""
    if len(said) != 3 or not isinstance(said[2], dict):
        return said
    return said[:2] if said[1] is not None else list(said[2].get("type_hint") or said[:2])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PerfError(
            f"the base has no {path.parent.name}/{path.name}", where=str(path.parent), hint=_INCOMPLETE
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise PerfError("the file cannot be read as JSON", where=str(path), hint=_INCOMPLETE) from error
    if not isinstance(content, dict):
        raise PerfError("the file does not hold a JSON object", where=str(path), hint=_INCOMPLETE)
    return content
