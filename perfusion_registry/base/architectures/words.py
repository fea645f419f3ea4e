"""Words of several vectors that are put into a base: textual-inversion embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import load_file

from perfusion_registry.adapters.embeddings import embedding_names
from perfusion_registry.base.options import WordEmbedding
from perfusion_registry.errors import PerfError


def add_words(embeddings: Sequence[WordEmbedding], pipe: Any, encoders: Mapping[str, Any]) -> None:
    """Add tokens to the pipeline's tokenizers, and their vectors to its text encoders.

    A word of v vectors is v tokens, called as diffusers calls them: `word`, `word_1`, ... Raises PerfError
    for a word that is a token already.
    """
    with_names = [
        (one, [one.word, *(f"{one.word}_{k}" for k in range(1, one.vectors))]) for one in embeddings
    ]
    for number, (component, encoder) in enumerate(encoders.items()):
        tokenizer = getattr(pipe, component.replace("text_encoder", "tokenizer"))
        # A pooled vector is read at the end token, which an old configuration takes for the greatest id.
        for told in (encoder, getattr(encoder, "text_model", encoder)):
            told.config.eos_token_id = tokenizer.eos_token_id
            if hasattr(told, "eos_token_id"):
                told.eos_token_id = tokenizer.eos_token_id
        for one, names in with_names:
            _add(tokenizer, one, names)
            tensors = load_file(one.part.place)
            vectors = tensors[embedding_names(tensors)[number]].float()
            before = encoder.get_input_embeddings().weight.shape[0]
            size = max(len(tokenizer), before)
            if size > before:
                encoder.resize_token_embeddings(size, mean_resizing=False)
            with torch.no_grad():
                ids = tokenizer.convert_tokens_to_ids(names)
                encoder.get_input_embeddings().weight[ids] = vectors.reshape(len(names), -1)


def _add(tokenizer: Any, one: WordEmbedding, names: Sequence[str]) -> None:
    from tokenizers import AddedToken

    known = [
        name for name in names if name in tokenizer.get_vocab() or f"{name}</w>" in tokenizer.get_vocab()
    ]
    if known:
        raise PerfError(
            f"the base has a token {known[0]!r} already, so no embedding can be called so",
            where=f"perfusion.toml, base.embeddings.{one.word}",
            hint="call it by another word",
        )
    tokenizer.add_tokens([AddedToken(name, single_word=True, normalized=True) for name in names])
