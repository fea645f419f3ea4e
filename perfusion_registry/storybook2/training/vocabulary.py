"""The second Storybook's tokenizer: a small byte-level BPE vocabulary in CLIP's format that takes any text.

The one that everything is trained with is in the package (`tokenizer/`): a training breaks ties between
equally frequent pairs by chance, so it cannot be made anew.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from perfusion_registry.storybook2.captions import caption
from perfusion_registry.storybook2.grammar import sample_page
from perfusion_registry.storybook2.words import EVERYDAY, plural
from perfusion_registry.storybook2.world.colours import COLOURS
from perfusion_registry.storybook2.world.drawing import drawings, places

TOKENS = 48
"""Positions of the text encoder."""
START, END = "<|startoftext|>", "<|endoftext|>"
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def world_words() -> tuple[str, ...]:
    """Every word by which a caption can call a thing or a part of it, in the singular and the plural, every
    colour and every word of the places, sorted."""
    texts: set[str] = set(COLOURS)
    for drawing in drawings().values():
        texts |= {*drawing.words, *map(plural, drawing.words), *drawing.parts}
    for place in places().values():
        texts |= set(place.words)
    return tuple(sorted({word for text in texts for word in text.lower().replace("-", " ").split()}))


def train_vocabulary(
    folder: Path, *, size: int = 2310, captions: int = 8_000, seed: int = 0
) -> CLIPTokenizer:
    """Train on captions of the grammar, the words of the world and everyday English; writes a `CLIPTokenizer`
    folder.

    size: of bytes and merges; the bytes that end words and the two special tokens come on top of it.
    """
    rng = Random(f"storybook2 vocabulary {seed}")
    texts = [caption(sample_page(rng), rng).text for _ in range(captions)]
    world, everyday = list(world_words()), EVERYDAY.split()
    texts += [" ".join(rng.sample(world, len(world))) for _ in range(500)]
    texts += [" ".join(rng.sample(everyday, len(everyday))) for _ in range(260)]
    texts.append(" ".join(string.ascii_lowercase + string.digits + string.punctuation))
    model = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    model.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        special_tokens=[],
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    merges = [
        m.split(" ") if isinstance(m, str) else m for m in json.loads(model.to_str())["model"]["merges"]
    ]
    tokens = list(
        dict.fromkeys([*alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges), START, END])
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").unlink(missing_ok=True)  # it would be read instead of what follows
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8"
    )
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": TOKENS,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "do_lower_case": True,
        "errors": "replace",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
