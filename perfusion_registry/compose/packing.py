"""Packed encodings: what every K and V projection of the denoiser emits for a composition (Eq. 4)."""

# ruff: noqa: E741 (I and O are the paper's symbols)

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perfusion_registry import edit
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Conditioning, Tokens
from perfusion_registry.build.prompts import TARGET_PROMPT, pieces
from perfusion_registry.compose.composing import tokenised
from perfusion_registry.compose.composition import ComposedConcept, Composition
from perfusion_registry.compose.prompt import Prompt, parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.embeddings import embedding_name

SMALLEST_TEMPERATURE = 1e-6


@dataclass(frozen=True)
class Targets:
    """The concepts of a composition as Eq. 4 takes them, in its order.

    I, V: (J, d) target inputs and their duals. O: (J, D) target outputs in bank order.
    bias, temperature: (J,).
    """

    I: Tensor
    V: Tensor
    O: Tensor
    bias: Tensor
    temperature: Tensor

    def only(self, chosen: Sequence[int], columns: Tensor) -> Targets:
        """Return the `chosen` concepts, with the `columns` (D,) bool of their target outputs."""
        j = torch.tensor(list(chosen), dtype=torch.long, device=self.I.device)
        return Targets(self.I[j], self.V[j], self.O[j][:, columns], self.bias[j], self.temperature[j])


@torch.no_grad()
def pack(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    prompts: Sequence[str] | None = None,
) -> Conditioning:
    """Return `prompts`, by default the composition's own, with packed encodings (B, n, D) fp32 for states.

    artifacts: by concept name, at least those that the composition lists. prompts: B prompts that may call
    the composition's concepts; one that calls none (a negative prompt) goes through the edit all the same.

    Concepts under a global lock (Appendix C): V comes from the concepts' prompt, and K, unedited, from the
    same prompt with the supercategory in place of the concept. Where a composition mixes locks, the K prompt
    replaces only the globally locked concepts, and Eq. 4 edits its K for the others alone; so all-global is
    Appendix C exactly, and all-local is Eq. 4 exactly. A supercategory of several tokens lines up by its
    last, as `aligned` has it.
    """
    written = [composition.prompt] if prompts is None else list(prompts)
    parsed = [parse_prompt(text) for text in written]
    tokens = [_tokens(base, composition, prompt) for prompt in parsed]
    every = targets(base, composition, artifacts)
    W = base.bank.W  # (D, d)
    encoded = _encodings(base, composition, artifacts, parsed, tokens)
    E = encoded.states.to(W)  # (B, n, d)
    h = edit.packed(E, W, every.I, every.V, every.O, every.bias, every.temperature)  # (B, n, D)

    swapped = frozenset(c.name for c in composition.concepts if c.key_lock == "global")
    if swapped:
        keys = base.bank.key_columns.to(W.device)  # (D,)
        others = every.only([j for j, c in enumerate(composition.concepts) if c.name not in swapped], keys)
        E = _key_encodings(base, composition, artifacts, parsed, tokens, swapped)
        h[..., keys] = edit.packed(E, W[keys], others.I, others.V, others.O, others.bias, others.temperature)
    return encoded.with_states(h)


@torch.no_grad()
def encodings(
    base: Base, composition: Composition, artifacts: Mapping[str, Artifact]
) -> tuple[Tokens, Conditioning]:
    """Return the composition's one prompt as tokens and as encodings, before the edit."""
    prompt = parse_prompt(composition.prompt)
    tokens = _tokens(base, composition, prompt)
    return tokens, _encodings(base, composition, artifacts, [prompt], [tokens])


@torch.no_grad()
def targets(base: Base, composition: Composition, artifacts: Mapping[str, Artifact]) -> Targets:
    """Return the target inputs and outputs of a composition's concepts, on the bank's device, in fp32.

    o*_K is recomputed from the base's own W_K, `W_K e_supercategory` (Section 4.4); trained keys are used
    where the lock is `none`. Raises PerfError when an artifact does not fit the base's layers.
    """
    W = base.bank.W
    J, (D, d) = len(composition.concepts), W.shape
    I, V, O = W.new_zeros(J, d), W.new_zeros(J, d), W.new_zeros(J, D)
    for j, concept in enumerate(composition.concepts):
        artifact = _artifact(composition, artifacts, concept)
        I[j] = _tensor(artifact, "target_input", d)
        V[j] = _tensor(artifact, "target_input_dual", d)
        e = _supercategory_encoding(base, concept.supercategory)  # (d,)
        for layer in base.bank.layers:
            keys, values = layer.key_slice, layer.value_slice
            width = values.stop - values.start
            O[j, values] = _tensor(artifact, f"output.{layer.path}", width).to(W)
            if concept.key_lock == "none":
                key_width = keys.stop - keys.start
                O[j, keys] = _tensor(artifact, f"output_key.{layer.path}", key_width).to(W)
            else:
                O[j, keys] = W[keys] @ e
    return Targets(
        I,
        V,
        O,
        bias=W.new_tensor([c.bias for c in composition.concepts]),
        temperature=W.new_tensor([max(c.temperature, SMALLEST_TEMPERATURE) for c in composition.concepts]),
    )


def _supercategory_encoding(base: Base, word: str) -> Tensor:
    """Return the encoding (d,) of `word` in "a photo of a <word>" (Section 4.4), as the build takes it."""
    tokens = base.tokenise(pieces(TARGET_PROMPT, word, spelled=True))
    return base.encode([tokens]).states[0, tokens.concept_positions[0]].to(base.bank.W)


def _tokens(base: Base, composition: Composition, prompt: Prompt) -> Tokens:
    """Tokenise a prompt, and check the positions of the composition's own against its file."""
    words = {concept.name: concept.supercategory for concept in composition.concepts}
    strangers = [name for name in prompt.names if name not in words]
    if strangers:
        raise PerfError(
            f"the composition has no concept {strangers[0]!r}",
            hint="a prompt beside it may only call the concepts of its own",
        )
    tokens = tokenised(base, prompt, words)
    if prompt == parse_prompt(composition.prompt):
        for concept in composition.concepts:
            found = tuple(
                position
                for call, position in zip(prompt.calls, tokens.concept_positions, strict=True)
                if call.name == concept.name
            )
            if found != concept.positions:
                raise PerfError(
                    f"the composition puts {concept.name!r} at token {_listed(concept.positions)}, "
                    f"and this base's tokenizer at {_listed(found)}",
                    hint="it was made for another base or edited by hand; write it anew with `perf compose`",
                )
    return tokens


def _encodings(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    prompts: Sequence[Prompt],
    tokens: Sequence[Tokens],
    swapped: Collection[str] = (),
) -> Conditioning:
    """Encode prompts with the concepts' own token embeddings, except for the concepts in `swapped`."""
    widths = [int(table.weight.shape[1]) for table in base.embedding_tables]
    embeddings = {}
    for b, prompt in enumerate(prompts):
        for number, call in enumerate(prompt.calls):
            if call.name not in swapped:
                artifact = _artifact(composition, artifacts, composition.concept(call.name))
                embeddings[b, number] = [
                    _tensor(artifact, embedding_name(encoder), width) for encoder, width in enumerate(widths)
                ]
    return base.encode(tokens, embeddings)


def _key_encodings(
    base: Base,
    composition: Composition,
    artifacts: Mapping[str, Artifact],
    prompts: Sequence[Prompt],
    tokens: Sequence[Tokens],
    swapped: Collection[str],
) -> Tensor:
    """Encode prompts with the supercategories of the concepts in `swapped` in their place.

    tokens: the prompts with every concept in its own place. Returns E (B, n, d), lined up with them.
    """
    words = {concept.name: concept.supercategory for concept in composition.concepts}
    spelled = [tokenised(base, prompt, words, swapped) for prompt in prompts]
    E = _encodings(base, composition, artifacts, prompts, spelled, swapped).states.to(base.bank.W)
    rows = [aligned(*pair) for pair in zip(tokens, spelled, strict=True)]
    return torch.stack([e[row.to(e.device)] for e, row in zip(E, rows, strict=True)])


def aligned(tokens: Tokens, spelled: Tokens) -> Tensor:
    """Return, for each position of a prompt, where it is when its supercategories are spelled out; (n,).

    The one token of a concept is where the last token of its supercategory is, the only one that has read
    all of it; what follows is as much further on. The last padding stands for what is pushed out. Raises
    PerfError when that is more than padding.
    """
    n, shift, rows = len(tokens), 0, []
    places = dict(zip(tokens.concept_positions, spelled.concept_positions, strict=True))
    for position in range(n):
        shift = places.get(position, position + shift) - position
        rows.append(min(position + shift, n - 1))
    if shift and spelled.dropped:
        raise PerfError(
            f"the prompt is too long for a global lock: with the supercategories spelled out, "
            f"these words are lost: {spelled.dropped.strip()}",
            hint="shorten the prompt, or use lock=local",
        )
    return torch.tensor(rows)


def _artifact(
    composition: Composition, artifacts: Mapping[str, Artifact], concept: ComposedConcept
) -> Artifact:
    artifact = artifacts.get(concept.name)
    if artifact is None:
        raise PerfError(
            f"the artifact of {concept.name!r} is not at hand", hint=f"build it: `perf build {concept.name}`"
        )
    card = artifact.card
    if (card.recipe_digest, card.supercategory) != (concept.recipe_digest, concept.supercategory):
        raise PerfError(
            f"the artifact of {concept.name!r} is another build than the composition asks for",
            hint="write the composition anew with `perf compose`",
        )
    if card.covariance != composition.covariance:
        raise PerfError(
            f"{concept.name!r} was built with another covariance than the composition names",
            hint="write the composition anew with `perf compose`",
        )
    return artifact


def _tensor(artifact: Artifact, key: str, width: int) -> Tensor:
    """Return one vector (width,) of an artifact in fp32; raises PerfError when it does not fit."""
    tensor = artifact.tensors.get(key)
    if tensor is None or tensor.shape != (width,):
        found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
        raise PerfError(
            f"the artifact of {artifact.card.name!r} does not fit this base: "
            f"{key} {found}, and ({width},) is needed",
            hint=f"build it for this base: `perf build {artifact.card.name}`",
        )
    return tensor.float()


def _listed(positions: tuple[int, ...]) -> str:
    return ", ".join(map(str, positions)) or "none"
