"""Prompts as tokens: pieces of text and concepts, in the layout that a text encoder was trained on."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfusion_registry.errors import PerfError
from perfusion_registry.suggestions import closest

_END_OF_WORD = "</w>"
OF_A_LANGUAGE = 10_000
"""Tokens, from which a vocabulary is that of a language; CLIP's has 49,408."""
NOWHERE = -1
"""The position of a concept piece without tokens."""
PLACE = 0
"""The id that keeps the place of a token that is always replaced; never the greatest, by which old
configurations tell the end."""
NAMELESS = "<token>"
"""What a token of a concept without a word is called, where each token has the word that it belongs to."""
_WORDS = re.compile(r"[^\W\d_]+")
_UNDRAWN = frozenset(
    {
        *("an", "the", "this", "that", "these", "those", "there", "here", "and", "or", "but", "so", "as"),
        *("is", "are", "was", "were", "be", "been", "being", "am", "has", "have", "had", "who", "which"),
        *("its", "his", "her", "their", "my", "your", "our", "it", "he", "she", "they", "them", "him"),
        *("me", "you", "we", "us", "where", "when", "while"),
    }
)
"""Words that nobody expects to see in a picture, so that it does not matter whether a base has seen them."""


@dataclass(frozen=True)
class ConceptPiece:
    """The place of a concept in a prompt. word: the supercategory. vectors: how many tokens it becomes.

    spelled: as all tokens of the word, which may be a phrase, or "" for none at all. Else as `vectors`
    tokens, where the concept's own embeddings go; of a supercategory of several tokens the last one keeps
    that place, and without one, of a style, `PLACE` does. learned: words within a spelled word that become so
    many tokens each, where embeddings of their own go.
    """

    word: str
    spelled: bool = False
    vectors: int = 1
    learned: tuple[tuple[str, int], ...] = ()

    @property
    def parts(self) -> tuple[str | int, ...]:
        """A spelled word as texts and, in their places, the numbers of the learned words."""
        known = sorted(enumerate(self.learned), key=lambda one: -len(one[1][0]))
        pattern = "|".join(rf"(?P<n{number}>{re.escape(word)})" for number, (word, _) in known)
        if not pattern:
            return (self.word,) if self.word else ()
        parts: list[str | int] = []
        behind = 0
        for match in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", self.word, re.IGNORECASE):
            parts += [self.word[behind : match.start()], int(str(match.lastgroup)[1:])]
            behind = match.end()
        parts.append(self.word[behind:])
        return tuple(part for part in parts if isinstance(part, int) or part.strip())

    @property
    def read(self) -> str:
        """What is read of it by the base's own vocabulary."""
        return " ".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True)
class ChunkEnd:
    """The place in a prompt where a chunk ends, whatever still fits into it."""


@dataclass(frozen=True)
class Tokens:
    """A prompt as a base takes it: n positions, which what K and V read has too.

    ids: for each text encoder its token ids, with start, end and padding, chunk behind chunk. length: how
    many positions of the last chunk hold start, words and end; padding follows. words: n texts, the word that
    each position belongs to; "" for start, end and padding. pieces: which piece of the prompt each position
    is of; None for start, end and padding. concept_positions: the position of each concept piece, in the
    order of the pieces; of several the last, which alone has read all of them, of none `NOWHERE`.
    concept_tokens: all positions of each. places: for each concept piece and each text encoder, where its
    tokens are in that encoder's ids. dropped: the words that did not fit, as text, or "". blank: for each
    text encoder the ids of a chunk without words, as long as every chunk is; none of texts that are not in
    chunks. lengths: of each text encoder, how many of its ids are no padding; none of texts in chunks. own:
    for each concept piece and each of its tokens, the number of a learned word and which of its vectors it
    is, None for one of the vocabulary; none of prompts without learned words.
    """

    ids: tuple[tuple[int, ...], ...]
    length: int
    words: tuple[str, ...] = ()
    pieces: tuple[int | None, ...] = ()
    concept_positions: tuple[int, ...] = ()
    concept_tokens: tuple[tuple[int, ...], ...] = ()
    places: tuple[tuple[tuple[int, ...], ...], ...] = ()
    dropped: str = ""
    blank: tuple[tuple[int, ...], ...] = ()
    lengths: tuple[int, ...] = ()
    own: tuple[tuple[tuple[int, int] | None, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.words)

    @property
    def chunk(self) -> int:
        """How many positions a text encoder reads at once: of each chunk, or all of them."""
        return len(self.blank[0]) if self.blank else len(self.ids[0])

    @property
    def chunks(self) -> int:
        """How many chunks it is."""
        return len(self.ids[0]) // self.chunk

    def ends(self) -> tuple[int, ...]:
        """The position of the end token of each chunk."""
        starts = range(0, len(self), self.chunk)
        return tuple(start + 1 + sum(map(bool, self.words[start : start + self.chunk])) for start in starts)

    def beside(self, other: Tokens) -> Tokens:
        """The same prompt for one more text encoder, whose tokens `other` has; positions stay this one's."""
        places = tuple((*mine, *theirs) for mine, theirs in zip(self.places, other.places, strict=True))
        blank, lengths = (*self.blank, *other.blank), (*self.lengths, *other.lengths)
        return replace(self, ids=(*self.ids, *other.ids), places=places, blank=blank, lengths=lengths)


@dataclass(frozen=True)
class Token:
    """A token, the word it belongs to, and (piece, offset of that word) to tell equal words apart."""

    id: int
    word: str
    source: tuple[int, int]


def laid_out(
    tokens: Sequence[Token],
    concepts: Sequence[tuple[int, ...]],
    length: int,
    start: Sequence[int],
    end: Sequence[int],
    padding: int,
) -> Tokens:
    """A prompt of `length` positions for one text encoder: between the ids of its start and end as many
    tokens as fit, then padding.

    concepts: the tokens of each concept piece, by index. Raises PerfError when a concept would be lost.
    """
    room = length - len(start) - len(end)
    kept, lost = tokens[:room], tokens[room:]
    dropped = " ".join({token.source: token.word for token in lost}.values())  # each word once
    beyond = [tokens[indices[-1]].word for indices in concepts if indices and indices[-1] >= room]
    if beyond:
        raise PerfError(
            f"the prompt is too long: it has {len(tokens)} tokens, the text encoder takes {room}, "
            f"and a concept would be lost ({', '.join(beyond)})",
            where=f"the end of the prompt: {dropped}",
            hint="shorten the prompt, or move the concepts to its front",
        )
    row = [*start, *(token.id for token in kept), *end]
    filling = length - len(row)
    at = tuple(tuple(index + len(start) for index in indices) for indices in concepts)
    return Tokens(
        ids=((*row, *[padding] * filling),),
        length=len(row),
        words=(*[""] * len(start), *(token.word for token in kept), *[""] * (len(end) + filling)),
        pieces=(
            *[None] * len(start),
            *(token.source[0] for token in kept),
            *[None] * (len(end) + filling),
        ),
        concept_positions=tuple(indices[-1] if indices else NOWHERE for indices in at),
        concept_tokens=at,
        places=tuple((indices,) for indices in at),
        dropped=dropped,
        lengths=(len(row),),
    )


def supercategory_tokens(tokenizer: Any, word: str) -> list[int]:
    """The ids of a supercategory. Raises PerfError when the tokenizer makes nothing of it."""
    ids = [int(id_) for id_ in tokenizer(word, add_special_tokens=False).input_ids]
    if not ids:
        raise PerfError(
            f"the supercategory {word!r} holds nothing that the tokenizer can read", hint="use a plain word"
        )
    return ids


def several_tokens(tokenizer: Any, word: str) -> str | None:
    """What to tell of a supercategory of several tokens, with words that are one; None where it is one.

    Raises PerfError where its last word is in pieces: a concept would be locked to the keys of a fragment.
    """
    ids = supercategory_tokens(tokenizer, word)
    if len(ids) == 1:
        return None
    tokens = tokenizer.convert_ids_to_tokens(ids)
    parts = [part.removesuffix(_END_OF_WORD) for part in tokens]
    # `t-shirt` ends in a word of its own, as `glass teapot` does.
    if not tokens[-2].endswith(_END_OF_WORD) or not parts[-1].isalnum():
        similar = _similar_words(tokenizer, word.split()[-1])
        raise PerfError(
            f"the supercategory {word!r} is no word that this base knows: it reads {' + '.join(parts)}, and "
            f"the concept would be a kind of {parts[-1]!r}",
            hint=f"use a plain word that it knows, such as {' or '.join(similar)}"
            if similar
            else "use a plain word that it knows; `perf suggest-super IMAGES` asks your pictures",
        )
    similar = _similar_words(tokenizer, word)
    instead = f"; single words that it knows are {', '.join(similar)}" if similar else ""
    return (
        f"this base reads the supercategory {word!r} as {' + '.join(parts)}, and a concept stands in the "
        f"place of one of these: it is a kind of the last{instead}"
    )


def unknown_words(tokenizer: Any, texts: Sequence[str], trained: Collection[str] = ()) -> list[str]:
    """The words that a base of few words has never seen; none of a base whose vocabulary is that of a
    language, which knows words in pieces too.

    trained: the words that it was trained on, where these are known; a vocabulary may have more. Else those
    are told that it reads in pieces.
    """
    if len(tokenizer) >= OF_A_LANGUAGE:
        return []
    words = dict.fromkeys(word for text in texts for word in _WORDS.findall(text.lower()))
    if trained:
        known = {*trained, *_UNDRAWN}
        return [word for word in words if len(word) > 1 and word not in known]
    return [word for word in words if len(tokenizer(word, add_special_tokens=False).input_ids) > 1]


def _similar_words(tokenizer: Any, word: str) -> list[str]:
    """Up to four single-token words: those within `word` first, then those spelt like it."""
    vocabulary = {
        token.removesuffix(_END_OF_WORD)
        for token in tokenizer.get_vocab()
        if token.endswith(_END_OF_WORD) and token.removesuffix(_END_OF_WORD).isalpha() and len(token) > 6
    }
    within = [part for part in re.split(r"[\W_]+", word.lower())[::-1] if part in vocabulary]
    return [*within, *closest(word, vocabulary - set(within), most=4)][:4]
