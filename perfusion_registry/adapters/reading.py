"""Reading a file of adapters, whoever wrote it: every key is understood, or the file is refused.

`look_into` does it by the header alone, without torch; `read_adapters` reads the tensors too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.adapters import metadata as said
from perfusion_registry.adapters.adapter import (
    ALPHA,
    COMPONENTS,
    DENOISER,
    Adapter,
    AdapterKind,
    Component,
    WordVectors,
    kind_of,
    rank_of,
)
from perfusion_registry.adapters.embeddings import (
    bundled,
    embedding_names,
    embedding_shapes,
    encoders,
    word_of,
)
from perfusion_registry.adapters.guess import base_of_keys, base_of_modules
from perfusion_registry.adapters.keys import MAGNITUDE, dialect_of, other_kind, read_key
from perfusion_registry.adapters.modules import Modules
from perfusion_registry.adapters.names import ModuleNames
from perfusion_registry.adapters.place import Opened, open_file
from perfusion_registry.adapters.shapes import mistake
from perfusion_registry.errors import PerfError, at

if TYPE_CHECKING:
    from torch import Tensor

_PEFT_MAGNITUDE, _PEFT_BIAS = "lora_magnitude_vector", "lora_bias"
_TAKE_ANOTHER = "take the file that was made for this base's kind"


@dataclass(frozen=True)
class AdapterPart:
    """One adapter of a file, before its numbers are read. keys: of its tensors, by LyCORIS' names."""

    component: Component
    module: str
    kind: AdapterKind
    keys: Mapping[str, str]
    rank: int | None


@dataclass(frozen=True)
class Contents:
    """What a file of adapters has, by its header.

    dialect: who writes such files: kohya, LyCORIS, OneTrainer, PEFT, diffusers, ComfyUI, A1111. parts: its
    adapters. words_in_it: the textual inversions, by word (None: the file's own name), the keys by component.
    base: the kind of base that it was made for, and base_name its name; words: that call it; licence: all as
    the file says, None or none where it says nothing.
    """

    opened: Opened
    dialect: str
    parts: tuple[AdapterPart, ...]
    words_in_it: Mapping[str | None, Mapping[str, str]]
    words: tuple[str, ...]
    base: str | None
    base_name: str | None
    licence: str | None

    @property
    def in_text(self) -> bool:
        """Whether it changes text encoders."""
        return any(part.component != DENOISER for part in self.parts)


@dataclass(frozen=True)
class AdapterFile:
    """What a file of adapters is, read. contents: what its header says. metadata: of the header, as it is."""

    contents: Contents
    adapters: tuple[Adapter, ...]
    embeddings: tuple[WordVectors, ...]
    metadata: Mapping[str, str]


def read_adapters(path: Path, modules: Modules) -> AdapterFile:
    """Read a file of adapters for a base with these modules (`modules_of`): a safetensors file, or peft's
    folder; fp8 becomes fp16, all other formats stay.

    Raises PerfError in one sentence for a pickle, a file that is not whole, a key that means nothing here or
    nothing to this base, shapes that do not fit, and numbers that are not finite.
    """
    contents = look_into(path, modules)
    with at(str(contents.opened.file)):
        tensors = _tensors(contents.opened)
        settings = said.peft_settings(contents.opened.header.metadata, contents.opened.configuration)
        adapters = tuple(_adapter(part, tensors, settings) for part in contents.parts)
        words = tuple(
            WordVectors(word, {one: _rows(tensors[key]) for one, key in keys.items()})
            for word, keys in contents.words_in_it.items()
        )
    return AdapterFile(contents, adapters, words, contents.opened.header.metadata)


def look_into(path: Path, modules: Modules) -> Contents:
    """What a file of adapters has, by its header alone. Raises PerfError as `read_adapters` does, but for
    numbers."""
    opened = open_file(path)
    with at(str(opened.file)):
        about = opened.header.metadata
        parts: tuple[AdapterPart, ...]
        words_in_it: Mapping[str | None, Mapping[str, str]]
        said.peft_settings(about, opened.configuration)
        alone = _one_embedding(opened, modules)
        keys = [key for key in opened.shapes if not key.startswith("bundle_emb.")]
        if alone is not None:
            parts, words_in_it = (), alone
            dialect = "A1111" if None in alone else "diffusers"
        else:
            names = ModuleNames(modules)
            inside = bundled(opened.shapes)
            parts = _parts(opened, keys, names)
            words_in_it = {word: _fitting(word, own, opened, modules) for word, own in inside.items()}
            dialect = dialect_of(keys, about)
        words = (*(word for word in words_in_it if word is not None), *said.words(about))
        return Contents(
            opened,
            dialect,
            parts,
            words_in_it,
            tuple(dict.fromkeys(words)),
            said.base_kind(about) or base_of_keys(opened.shapes),
            said.base_name(about),
            said.licence(about),
        )


def _one_embedding(opened: Opened, modules: Modules) -> dict[str | None, Mapping[str, str]] | None:
    """The textual inversion that a whole file is; None where it is none."""
    names = embedding_names(opened.shapes)
    if len(names) == 2 and embedding_shapes(opened.shapes) is None:
        raise PerfError(
            f"its `{names[0]}` and `{names[1]}` are not as many vectors for each text encoder",
            hint="take an embedding that was made for this base's kind",
        )
    if not names or embedding_shapes(opened.shapes) is None:
        return None
    if read_key(names[0]) is not None or names[0].endswith((".weight", ".bias")) or other_kind(names):
        return None
    own = dict(zip(encoders(len(names)), names, strict=False))
    word = word_of(names[0])
    return {word: _fitting(word, own, opened, modules)}


def _fitting(word: str | None, own: Mapping[str, str], opened: Opened, modules: Modules) -> Mapping[str, str]:
    """Refuse embeddings of other widths than those of the base's text encoders."""
    theirs = {one: opened.shapes[key][-1] for one, key in own.items()}
    ours = {one: paths["text_model.final_layer_norm"][0] for one, paths in modules.items() if one != DENOISER}
    if theirs != ours:
        told = [" and ".join(map(str, widths.values())) for widths in (theirs, ours)]
        called = f"embedding `{word[:100]}`" if word is not None else "embedding"
        raise PerfError(
            f"this {called} has {told[0]} numbers a token, and the base's text encoder {told[1]}",
            hint=_TAKE_ANOTHER,
        )
    return own


def _parts(opened: Opened, keys: list[str], names: ModuleNames) -> tuple[AdapterPart, ...]:
    found: dict[tuple[Component, str], dict[str, str]] = {}
    stranger: str | None = None
    for text in keys:
        key = read_key(text)
        if key is None:
            raise _unknown(text, keys)
        place = key.place(names)
        if place is None:
            where = f"{key.component}'s `{key.module[:100]}`" if key.component else f"`{key.module[:100]}`"
            stranger = stranger or f"it changes {where}, which the base does not have (`{text[:100]}`)"
            continue
        own = found.setdefault(place, {})
        if key.name in own:
            raise PerfError(f"two tensors are for one place: `{own[key.name][:100]}` and `{text[:100]}`")
        own[key.name] = text
    if stranger is not None:
        raise _misfit(stranger, opened, names.modules)
    if not found:
        raise PerfError("there are no adapters in this file", hint="name a LoRA's safetensors file")
    order = sorted(found.items(), key=lambda item: (COMPONENTS.index(item[0][0]), item[0][1]))
    return tuple(_part(place, own, opened, names.modules) for place, own in order)


def _part(
    place: tuple[Component, str], own: Mapping[str, str], opened: Opened, modules: Modules
) -> AdapterPart:
    component, module = place
    shapes = {name: opened.shapes[key] for name, key in own.items() if name != ALPHA}
    for theirs, ours in ((_PEFT_MAGNITUDE, MAGNITUDE), (_PEFT_BIAS, "diff_b")):
        if theirs in shapes:
            shape = shapes.pop(theirs)
            shapes[ours] = (max(shape),) if theirs == _PEFT_MAGNITUDE and shape else shape
    kind = kind_of(shapes)
    told = f"{component}'s `{module}`"
    if kind is None:
        raise PerfError(f"its tensors for {told} are those of no one kind: {', '.join(sorted(shapes))}")
    wrong = mistake(kind, shapes, modules[component][module])
    if wrong is not None:
        raise _misfit(f"this adapter does not fit the base: of {told}, {wrong}", opened, modules)
    alpha = own.get(ALPHA)
    if alpha is not None and opened.shapes[alpha] not in ((), (1,)):
        raise PerfError(f"its `{alpha[:100]}` is no one number")
    return AdapterPart(component, module, kind, own, rank_of(shapes))


def _adapter(part: AdapterPart, tensors: Mapping[str, Tensor], settings: said.PeftSettings) -> Adapter:
    own = {name: tensors[key] for name, key in part.keys.items()}
    alpha: float | None = None
    if ALPHA in own:
        alpha = float(own.pop(ALPHA))
    elif part.rank is not None:
        alpha = settings.alpha(part.component, part.module, part.rank)
    if _PEFT_MAGNITUDE in own:
        own[MAGNITUDE] = own.pop(_PEFT_MAGNITUDE).flatten()
    if _PEFT_BIAS in own:  # peft scales it as it scales the factors
        scale = 1.0 if alpha is None or part.rank is None else alpha / part.rank
        own["diff_b"] = own.pop(_PEFT_BIAS).float() * scale
    return Adapter(part.component, part.module, part.kind, own, alpha)


def _tensors(opened: Opened) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(opened.file)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise PerfError("its tensors cannot be read", hint="fetch it again") from error
    for key, tensor in tensors.items():
        if tensor.dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            tensors[key] = tensor.to(torch.float16)
        if not bool(torch.isfinite(tensors[key]).all()):
            raise PerfError(f"its tensor `{key[:100]}` has values that are not finite", hint="fetch it again")
    return tensors


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def _unknown(key: str, keys: list[str]) -> PerfError:
    kind = other_kind([key]) or other_kind(keys)
    if kind is not None:
        return PerfError(
            f"this is {kind} (`{key[:100]}`), and perf reads LoRA, LoHa, LoKr, DoRA and whole differences",
            hint="take the model with it merged in, as a base of its own",
        )
    return PerfError(
        f"its tensor `{key[:100]}` means nothing to perf, which leaves nothing out in silence",
        hint="name a file of LoRA, LoHa, LoKr, DoRA or textual inversion",
    )


def _misfit(told: str, opened: Opened, modules: Modules) -> PerfError:
    """The refusal of a file for another base, by the names of both kinds where these differ, else as told."""
    ours = base_of_modules(modules)
    theirs = base_of_keys(opened.shapes) or said.base_kind(opened.header.metadata)
    if theirs is not None and theirs != ours:
        named = said.base_name(opened.header.metadata)
        made_for = theirs if named is None else f"{theirs} ({named})"
        return PerfError(f"this was made for {made_for}, and the base is {ours}", hint=_TAKE_ANOTHER)
    return PerfError(told, hint=_TAKE_ANOTHER)
