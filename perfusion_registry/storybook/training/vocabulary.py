"""The embedded base's tokenizer: a small byte-level BPE vocabulary in CLIP's format that takes any text."""

from __future__ import annotations

import json
import string
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from perfusion_registry.storybook.captions import MAX_TOKENS, training_pages

START, END = "<|startoftext|>", "<|endoftext|>"
_COMMON = """
the of and to in that is was he for it with as his on be at by had not are but from or have an they which
one you were all she there would their we him been has when who will no more if out so said what up its
about into than them can only other time new some could these two may first then do any like my now over
such our man me even most made after also did many off before must well back through years where much your
way down should because long each just state people those too mr how little good world make very year still
see own work men day get here old life both between being under three never know same last another while us
might great go come since against right came take used himself few house use place american during high
without again home around small however found mrs thought went say part once his her photo picture painting
drawing image watercolor oil ink sketch style close up shot view good clean dirty dark bright cool nice big
large tiny shown is a an dressed as wizard samurai superhero suit hat wearing costume sombrero chef cooking
gourmet meal cake table city street forest mountain river lake bridge sun moon stars rain autumn spring
summer winter party birthday picnic reading book playing ball riding floating eating sitting sailing
standing sleeping broken covered pouring water engraved front inside behind above tea cup bowl bag bunny
rabbit toy plush sculpture bird fish horse tortoise robot dragon castle king queen pirate ship train car
bicycle flower flowers tree window fireplace sunny snowy chilly shiny fluffy soft happy sad face eyes nose
tail
"""
"""Words that people write and captions do not, so that ordinary prompts stay short."""


def train_vocabulary(folder: Path, *, size: int = 1600, seed: int = 0) -> CLIPTokenizer:
    """Train on captions of the grammar and a list of common words; writes a `CLIPTokenizer` folder."""
    rng = Random(seed)
    pages = training_pages(rng)
    texts = [next(pages)[1] for _ in range(8000)]
    words = _COMMON.split()
    texts += [" ".join(rng.sample(words, 12)) for _ in range(600)]
    texts.append(" ".join(string.ascii_lowercase + string.digits + string.punctuation))
    model = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>"))
    model.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    clip_words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(clip_words), behavior="removed", invert=True),
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
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8"
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, "bos_token": START,
                "eos_token": END, "unk_token": END, "pad_token": END, "do_lower_case": True, "errors":
                "replace",
            },
            indent=2,
        )
    )  # fmt: skip
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
