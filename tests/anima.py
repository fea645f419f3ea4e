"""A tiny random base in the layout of Anima, as a modular pipeline of diffusers saves it.

Qwen's states are 24 wide, T5's tokens and d are 32. Pictures are 64 x 64, latents 4 x 8 x 8, patches 2 x 2.
Both tokenizers have each of `WORDS` as one token behind a space. The transformer has no channel for the mask
of the picture's edges, unlike Anima's own (`edges`): diffusers needs torchvision for that. Text is made loud,
or it would not be heard among 500 positions of zeros.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AnimaAutoBlocks,
    AnimaTextConditioner,
    AutoencoderKLQwenImage,
    CosmosTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)
from tokenizers import pre_tokenizers
from transformers import Qwen2TokenizerFast, Qwen3Config, Qwen3Model

from tests.pixart import t5_tokenizer
from tests.tiny import CARD, WORDS, save_tiny_tokenizer, tiny_clip

END = "<|endoftext|>"


def qwen_tokenizer(words: tuple[str, ...] = WORDS) -> Qwen2TokenizerFast:
    """Qwen's own kind, of a small vocabulary: bytes, and words with the space before them."""
    merges = {}
    for word in (f"Ġ{word}" for word in words):
        merges |= {word[: k + 1]: (word[:k], word[k]) for k in range(1, len(word))}
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *merges, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return Qwen2TokenizerFast(vocab=vocabulary, merges=list(merges.values()))


def save_tiny_anima(folder: Path, seed: int = 0, *, edges: bool = False) -> Path:
    """Build the tiny Anima in `folder`; the same seed gives the same weights. Returns `folder`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        t5, qwen = t5_tokenizer(), qwen_tokenizer()
        text = Qwen3Config(
            vocab_size=len(qwen), hidden_size=24, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=1024,
        )  # fmt: skip
        pipe = AnimaAutoBlocks().init_pipeline()
        pipe.update_components(
            t5_tokenizer=t5,
            tokenizer=qwen,
            text_encoder=Qwen3Model(text),
            text_conditioner=AnimaTextConditioner(
                source_dim=24, target_dim=32, model_dim=32, num_layers=2, num_attention_heads=4,
                target_vocab_size=len(t5),
            ),
            transformer=CosmosTransformer3DModel(
                in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2,
                text_embed_dim=32, adaln_lora_dim=8, max_size=(4, 16, 16), rope_scale=(1.0, 4.0, 4.0),
                concat_padding_mask=edges, extra_pos_embed_type=None,
            ),
            vae=AutoencoderKLQwenImage(
                base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
                latents_mean=[-0.7, 0.1, 0.9, -0.2], latents_std=[2.8, 1.4, 2.3, 1.9],
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )  # fmt: skip
        with torch.no_grad():
            for block in pipe.transformer.transformer_blocks:
                block.attn2.to_out[0].weight *= 20
                block.attn2.norm_k.weight *= 2
        pipe.save_pretrained(str(folder), overwrite_modular_index=True)
        tiny_clip(save_tiny_tokenizer(folder / "clip")).save_pretrained(folder / "clip")
    (folder / "perf-base.toml").write_text(CARD, encoding="utf-8")
    return folder
