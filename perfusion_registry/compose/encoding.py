"""Prompts as tokens and as encodings, with what their concepts bring to them, before any edit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base, Conditioning, InPooledToo, Rows, Tokens
from perfusion_registry.compose.adapting import encoded_gated, text_changes, with_adapters
from perfusion_registry.compose.alignment import lined_up, room_for_blanks
from perfusion_registry.compose.composition import Composition
from perfusion_registry.compose.contributing import contributions
from perfusion_registry.compose.pieces import Prompt
from perfusion_registry.compose.tokenising import positions_of, said_as, tokenised
from perfusion_registry.compose.weighing import token_weights
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.contribution import Contribution


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
    return tokens, encoded_with(base, composition, brought, [prompt], [tokens])


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


def encoded_with(
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
    spelled = encoded_without(base, composition, brought, prompts, tokens, gated.union(plain))
    return encoded_gated(
        base,
        brought,
        spelled,
        called(brought, prompts, tokens),
        lambda: _embedded(base, brought, prompts, tokens, common=False),
    )


def called(
    brought: Mapping[str, Contribution], prompts: Sequence[Prompt], tokens: Sequence[Tokens]
) -> list[dict[str, tuple[int, ...]]]:
    """Of each prompt, the tokens that call each concept."""
    return [
        {name: positions_of(name, prompt, row) for name in brought}
        for prompt, row in zip(prompts, tokens, strict=True)
    ]


def encoded_without(
    base: Base,
    composition: Composition,
    brought: Mapping[str, Contribution],
    prompts: Sequence[Prompt],
    tokens: Sequence[Tokens],
    swapped: Collection[str],
) -> Conditioning:
    """Encode prompts with the supercategories of the concepts in `swapped` in their place.

    tokens: the prompts with every concept in its own place. Returns (B, n, d), lined up with them; blank
    chunks stay what they are.
    """
    said = {one.name: said_as(one, spelled=one.name in swapped) for one in composition.concepts}
    spelled = [tokenised(base, prompt, said) for prompt in prompts]
    length = room_for_blanks(tokens, spelled)
    encoded = _embedded(base, brought, prompts, spelled, swapped, length=length)
    return encoded.with_states(lined_up(encoded.states, tokens, spelled))


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


def _listed(positions: tuple[int, ...]) -> str:
    return ", ".join(map(str, positions)) or "none"
