"""Packed encodings: what every K and V projection of the denoiser emits for a composition (Eq. 4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from perfusion_registry import edit
from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Conditioning, InPooledToo, Rows, Tokens
from perfusion_registry.compose.adapting import add_changes, encoded_gated, text_changes, with_adapters
from perfusion_registry.compose.alignment import lined_up, room_for_blanks
from perfusion_registry.compose.composition import ComposedConcept, Composition
from perfusion_registry.compose.merging import merged
from perfusion_registry.compose.pieces import Prompt
from perfusion_registry.compose.tokenising import positions_of, said_as, tokenised
from perfusion_registry.compose.weighing import token_weights
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.contribution import Contribution, Targets
from perfusion_registry.methods.table import find_method


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
    parsed = [composition.parsed] if prompts is None else list(prompts)
    tokens = [tokens_of(base, composition, prompt, plain=plain) for prompt in parsed]
    every_one = contributions(base, composition, artifacts)
    brought = {name: Contribution() if name in plain else one for name, one in every_one.items()}
    every = targets_of(base, brought)
    W = base.bank.W  # (D, d)
    encoded = _encodings(base, composition, brought, parsed, tokens, plain)
    E = encoded.states.to(W)  # (B, n, d)
    weights, mask = token_weights(parsed, tokens, E), encoded.mask  # padding has no part in the edit
    gates = (every.bias, every.temperature)
    h = edit.packed(E, W, every.I, every.V, every.O, *gates, weights, mask)  # (B, n, D)

    swapped = frozenset(name for name, contribution in brought.items() if contribution.plain_keys)
    K, others = E, every
    if swapped:
        keys = base.bank.key_columns.to(W.device)  # (D,)
        others = every.only([j for j, name in enumerate(every.names) if name not in swapped], keys)
        K = _spelled_encodings(base, composition, brought, parsed, tokens, swapped.union(plain)).states.to(W)
        gates = (others.bias, others.temperature)
        h[..., keys] = edit.packed(K, W[keys], others.I, others.V, others.O, *gates, weights, mask)
    if weights is not None:
        E, K = E * weights.unsqueeze(-1), K * weights.unsqueeze(-1)
    add_changes(base, h, brought, _called(brought, parsed, tokens), (E, every), (K, others))
    return encoded.with_states(h)


@torch.no_grad()
def spelled_out(
    base: Base, composition: Composition, prompts: Sequence[Prompt], *, least: int = 0
) -> Conditioning:
    """Encode prompts with each concept's supercategory in its place, unedited, with their weights: (B, n, d)
    for states, in as many chunks as with concepts, or as make `least` positions."""
    spelled, tokens = (
        [
            tokenised(base, prompt, {one.name: said_as(one, spelled=plain) for one in composition.concepts})
            for prompt in prompts
        ]
        for plain in (True, False)
    )
    encoded, read = base.encode(spelled, length=room_for_blanks(tokens, spelled)), spelled
    E = encoded.states
    if max(map(len, tokens)) != E.shape[1]:  # supercategories of several tokens need another chunk
        E, read = lined_up(E, tokens, spelled), tokens
    weights = token_weights(prompts, read, E)
    E = E if weights is None else E * weights.unsqueeze(-1)
    if E.shape[1] < least:
        blank = base.encode([base.tokenise([])]).states
        more = blank.repeat(len(E), (least - E.shape[1]) // blank.shape[1], 1)
        E = torch.cat([E, more.to(E)], 1)
    return encoded.with_states(E)


@torch.no_grad()
def encodings(
    base: Base, composition: Composition, artifacts: Mapping[str, Artifact]
) -> tuple[Tokens, Conditioning]:
    """Return the composition's one prompt as tokens and as encodings, before the edit."""
    return encodings_of(base, composition, contributions(base, composition, artifacts))


def encodings_of(
    base: Base, composition: Composition, brought: Mapping[str, Contribution]
) -> tuple[Tokens, Conditioning]:
    """`encodings` with what the concepts bring, as `contributions` gives it."""
    prompt = composition.parsed
    tokens = tokens_of(base, composition, prompt)
    return tokens, _encodings(base, composition, brought, [prompt], [tokens])


@torch.no_grad()
def contributions(
    base: Base, composition: Composition, artifacts: Mapping[str, Artifact]
) -> dict[str, Contribution]:
    """What each concept of a composition brings, by its name, in the composition's order.

    Raises PerfError when an artifact is another than the composition names, or does not fit the base.
    """
    brought = {}
    for concept in composition.concepts:
        artifact = _artifact(composition, artifacts, concept)
        brought[concept.name] = find_method(concept.method).contribution(
            base,
            artifact.tensors,
            concept.name,
            concept.supercategory or "",
            artifact.card.train,
            concept.render,
        )
        _check_vectors(concept, brought[concept.name])
    return merged(base, brought)


def anything_acts(base: Base, composition: Composition, artifacts: Mapping[str, Artifact]) -> bool:
    """Whether a composition has a concept that brings anything. Raises PerfError as `contributions` does."""
    return any(one.acts for one in contributions(base, composition, artifacts).values())


@torch.no_grad()
def targets(base: Base, composition: Composition, artifacts: Mapping[str, Artifact]) -> Targets:
    """Return the parts of Eq. 4 of a composition's concepts, on the bank's device, in fp32.

    Raises PerfError as `contributions` does.
    """
    return targets_of(base, contributions(base, composition, artifacts))


def targets_of(base: Base, brought: Mapping[str, Contribution]) -> Targets:
    """`targets` with what the concepts bring, as `contributions` gives it."""
    bank = base.bank
    by_name = {
        name: contribution.target for name, contribution in brought.items() if contribution.target is not None
    }
    every = by_name.values()
    return Targets(
        tuple(by_name),
        _stacked([contribution.i for contribution in every], bank.width, bank.device),
        _stacked([contribution.v for contribution in every], bank.width, bank.device),
        _stacked([contribution.o for contribution in every], bank.emitted_width, bank.device),
        bias=torch.tensor([contribution.bias for contribution in every], device=bank.device),
        temperature=torch.tensor([contribution.temperature for contribution in every], device=bank.device),
    )


def _stacked(vectors: Sequence[Tensor], width: int, device: torch.device) -> Tensor:
    """Vectors (width,) as rows, which may be none."""
    return torch.stack(list(vectors)) if vectors else torch.zeros(0, width, device=device)


def tokens_of(base: Base, composition: Composition, prompt: Prompt, *, plain: Collection[str] = ()) -> Tokens:
    """Tokenise a prompt, and check the positions of the composition's own against its file. plain: as in
    `pack`; the file knows no positions of prompts with any."""
    said = {one.name: said_as(one, spelled=one.name in plain) for one in composition.concepts}
    strangers = [name for name in prompt.names if name not in said]
    if strangers:
        raise PerfError(
            f"the composition has no concept {strangers[0]!r}",
            hint="a prompt beside it may only call the concepts of its own",
        )
    tokens = tokenised(base, prompt, said)
    if prompt == composition.parsed and not plain:
        for concept in composition.concepts:
            found = positions_of(concept.name, prompt, tokens)
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
    brought: Mapping[str, Contribution],
    prompts: Sequence[Prompt],
    tokens: Sequence[Tokens],
    plain: Collection[str] = (),
) -> Conditioning:
    """Encode prompts with the concepts' own token embeddings, and with their adapters. plain: as in
    `pack`."""
    gated = frozenset(name for name, one in brought.items() if one.gated)
    if not gated:
        return _embedded(base, brought, prompts, tokens)
    spelled = _spelled_encodings(base, composition, brought, prompts, tokens, gated.union(plain))
    return encoded_gated(
        base,
        brought,
        spelled,
        _called(brought, prompts, tokens),
        lambda: _embedded(base, brought, prompts, tokens, common=False),
    )


def _embedded(
    base: Base,
    brought: Mapping[str, Contribution],
    prompts: Sequence[Prompt],
    tokens: Sequence[Tokens],
    swapped: Collection[str] = (),
    *,
    common: bool = True,
    length: int | None = None,
) -> Conditioning:
    """Encode prompts with the concepts' own token embeddings, except for the concepts in `swapped`. common:
    with the adapters that are not gated."""
    embeddings = {
        (b, number): own
        for b, prompt in enumerate(prompts)
        for number, call in enumerate(prompt.calls)
        if call.name not in swapped and (own := _own(brought[call.name], tokens[b], number))
    }
    if not common:
        return base.encode(tokens, embeddings, length=length)
    with base.text_changed(text_changes([*with_adapters(brought, gated=False).values()])):
        return base.encode(tokens, embeddings, length=length)


def _own(contribution: Contribution, row: Tokens, number: int) -> Sequence[Rows]:
    """What a concept has of its own for the tokens of a prompt's call, for each text encoder."""
    learned = row.own[number] if row.own else ()
    if not any(learned):
        return contribution.embeddings
    encoders = range(len(contribution.words[0]) if contribution.words else 0)
    return InPooledToo(
        [None if at is None else contribution.words[at[0]][encoder][at[1]] for at in learned]
        for encoder in encoders
    )


def _check_vectors(concept: ComposedConcept, brought: Contribution) -> None:
    """Raise PerfError where a concept has other numbers of vectors than its calls have tokens for."""
    said = [(concept.vectors, brought.embeddings)] if brought.embeddings else []
    for number, one in enumerate(concept.learned):
        said.append((one.vectors, brought.words[number] if number < len(brought.words) else ()))
    for count, vectors in said:
        rows = {len(one) if one.ndim == 2 else 1 for one in vectors}
        if rows != {count}:
            raise PerfError(
                f"the artifact of {concept.name!r} has {rows.pop() if rows else 'no'} vectors, and its card "
                f"says {count}",
                hint="build the concept again, or fetch it again",
            )


def _called(
    brought: Mapping[str, Contribution], prompts: Sequence[Prompt], tokens: Sequence[Tokens]
) -> list[dict[str, tuple[int, ...]]]:
    """Of each prompt, the tokens that call each concept."""
    return [
        {name: positions_of(name, prompt, row) for name in brought}
        for prompt, row in zip(prompts, tokens, strict=True)
    ]


def _spelled_encodings(
    base: Base,
    composition: Composition,
    brought: Mapping[str, Contribution],
    prompts: Sequence[Prompt],
    tokens: Sequence[Tokens],
    swapped: Collection[str],
) -> Conditioning:
    """Encode prompts with the supercategories of the concepts in `swapped` in their place.

    tokens, E: the prompts with every concept in its own place, and their encodings (B, n, d). Returns the
    same, lined up with them; blank chunks stay what they are.
    """
    said = {one.name: said_as(one, spelled=one.name in swapped) for one in composition.concepts}
    spelled = [tokenised(base, prompt, said) for prompt in prompts]
    length = room_for_blanks(tokens, spelled)
    encoded = _embedded(base, brought, prompts, spelled, swapped, length=length)
    return encoded.with_states(lined_up(encoded.states, tokens, spelled))


def _artifact(
    composition: Composition, artifacts: Mapping[str, Artifact], concept: ComposedConcept
) -> Artifact:
    artifact = artifacts.get(concept.name)
    if artifact is None:
        raise PerfError(
            f"the artifact of {concept.name!r} is not at hand", hint=f"build it: `perf build {concept.name}`"
        )
    card = artifact.card
    fields = ("recipe_digest", "supercategory", "vectors")
    if any(getattr(card, field) != getattr(concept, field) for field in fields):
        raise PerfError(
            f"the artifact of {concept.name!r} is another build than the composition asks for",
            hint="write the composition anew with `perf compose`",
        )
    if card.covariance not in (None, composition.covariance):
        raise PerfError(
            f"{concept.name!r} was built with another covariance than the composition names",
            hint="write the composition anew with `perf compose`",
        )
    return artifact


def _listed(positions: tuple[int, ...]) -> str:
    return ", ".join(map(str, positions)) or "none"
