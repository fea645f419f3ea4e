"""Prompts as Eq. 4 edits them: packed, which is what every K and V projection emits, or in the thin form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from perfusion_registry import edit
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Conditioning, Form, Thin
from perfusion_registry.compose.adapting import add_changes, text_side, with_adapters
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.contributing import contributions, targets_of
from perfusion_registry.compose.encoding import called, encoded_with, encoded_without, tokens_of
from perfusion_registry.compose.pieces import Prompt
from perfusion_registry.compose.weighing import token_weights
from perfusion_registry.methods.contribution import Contribution, Targets


@dataclass(frozen=True, eq=False)
class _Read:
    """What Eq. 4 is made of for B prompts.

    encoded: with the concepts' own embeddings. called: of each prompt, the tokens that call each concept.
    whole: what every concept brings. brought: the same, of those that are plain nothing. values, keys: what
    each are made of, E (B, n, d) without weights and the parts of Eq. 4; the very same where no lock is
    global. weights: of tokens, (B, n), or None.
    """

    encoded: Conditioning
    called: Sequence[Mapping[str, Sequence[int]]]
    whole: Mapping[str, Contribution]
    brought: Mapping[str, Contribution]
    values: tuple[Tensor, Targets]
    keys: tuple[Tensor, Targets]
    weights: Tensor | None

    @classmethod
    def of(
        cls,
        base: Base,
        composition: Composition,
        artifacts: Mapping[str, Artifact],
        prompts: Sequence[Prompt] | None,
        plain: Collection[str],
    ) -> _Read:
        """Encode prompts; arguments as of `pack`."""
        parsed = [composition.parsed] if prompts is None else list(prompts)
        tokens = [tokens_of(base, composition, prompt, plain=plain) for prompt in parsed]
        whole = contributions(base, composition, artifacts)
        brought = {name: Contribution() if name in plain else one for name, one in whole.items()}
        encoded = encoded_with(base, composition, brought, parsed, tokens, plain)
        E = base.bank.here(encoded.states)
        values = keys = (E, targets_of(base, brought))
        swapped = frozenset(name for name, contribution in brought.items() if contribution.plain_keys)
        if swapped:
            every = values[1]
            others = every.only([j for j, name in enumerate(every.names) if name not in swapped])
            K = encoded_without(base, composition, brought, parsed, tokens, swapped.union(plain)).states
            keys = (base.bank.here(K), others)
        weights = token_weights(parsed, tokens, E)
        return cls(encoded, called(brought, parsed, tokens), whole, brought, values, keys, weights)

    @property
    def mask(self) -> Tensor | None:
        """Where there is text, (B, n): padding has no part in the edit."""
        return self.encoded.mask


def edited(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    prompts: Sequence[Prompt] | None = None,
    *,
    plain: Collection[str] = (),
    form: Form | None = None,
) -> Conditioning:
    """`pack` or `thin`, by default as the base says (`Base.form`)."""
    make = thin if (form or base.form) == "thin" else pack
    return make(base, composition, artifacts, prompts, plain=plain)


@torch.no_grad()
def pack(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    prompts: Sequence[Prompt] | None = None,
    *,
    plain: Collection[str] = (),
) -> Conditioning:
    """Return `prompts`, by default the composition's own, with packed encodings (B, n, D) fp32 for states.

    artifacts: by concept name, at least those that the composition lists. prompts: B prompts that may call
    the composition's concepts; one that calls none (a negative prompt) goes through the edit all the same.
    plain: concepts whose calls are their supercategories, spelled out, and nothing else. Weights in a prompt
    multiply its encodings before the edit, and never a gate.

    Concepts under a global lock (Appendix C): V comes from the concepts' prompt, and K, unedited, from the
    same prompt with the supercategory in place of the concept. Where a composition mixes locks, the K prompt
    replaces only the globally locked concepts, and Eq. 4 edits its K for the others alone; so all-global is
    Appendix C exactly, and all-local is Eq. 4 exactly. A supercategory of several tokens lines up by its
    last, as `aligned` has it.
    """
    read = _Read.of(base, composition, artifacts, prompts, plain)
    W, weights, mask = base.bank.W, read.weights, read.mask  # W: (D, d)
    (E, every), (K, others) = read.values, read.keys
    gates = (every.bias, every.temperature)
    h = edit.packed(E, W, every.I, every.V, every.O, *gates, weights, mask)  # (B, n, D)
    if K is not E:
        keys = base.bank.key_columns  # (D,)
        gates = (others.bias, others.temperature)
        O = others.O[:, keys]  # noqa: E741 (the paper's symbol)
        h[..., keys] = edit.packed(K, W[keys], others.I, others.V, O, *gates, weights, mask)
    if weights is not None:
        E, K = E * weights.unsqueeze(-1), K * weights.unsqueeze(-1)
    add_changes(base, h, read.brought, read.called, (E, every), (K, others))
    return read.encoded.with_states(h)


@torch.no_grad()
def thin(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    prompts: Sequence[Prompt] | None = None,
    *,
    plain: Collection[str] = (),
) -> Conditioning:
    """The same in the thin form: encodings and gates for states, and beside them what projections add.

    Arguments as of `pack`; what is added is the same whichever concepts are plain.
    """
    read = _Read.of(base, composition, artifacts, prompts, plain)
    whole, paths = targets_of(base, read.whole), text_side(base)
    adapters = {
        name: one.adapters
        for name, one in read.whole.items()
        if one.adapters is not None and one.adapters.strength and paths & one.adapters.denoiser.keys()
    }
    first = len(whole.names)  # of the adapters' columns: a concept may have one of each
    parts = []
    for E, targets in (read.values, read.keys):
        numbers = (targets.I, targets.V, targets.bias, targets.temperature)
        rest, open_ = edit.parted(E, *numbers, read.weights, read.mask)
        gates = rest.new_zeros(*rest.shape[:-1], first + len(adapters))
        for j, name in enumerate(targets.names):
            gates[..., whole.names.index(name)] = open_[..., j]
        parts.append((rest, gates))
    (_, of_values), (_, of_keys) = parts
    for column, name in enumerate(adapters, first):
        acts = name in with_adapters(read.brought, gated=False)
        of_values[..., column] = of_keys[..., column] = float(acts)
        if name in with_adapters(read.brought, gated=True):  # keys are the supercategory's
            for row, places in enumerate(read.called):
                of_values[row, list(places[name]), column] = 1
    added = Thin(whole.O, tuple((one.denoiser, one.strength) for one in adapters.values()))
    return replace(read.encoded, states=added.given(*parts), thin=added)
