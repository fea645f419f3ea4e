"""Which kind of base a file of adapters was made for, by its keys; and which kind a base is, by its modules.

The marks of kinds that perf does not draw with are those of published key tables (InvokeAI's
`lora_state_dicts`). Importing this needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from perfusion_registry.adapters.adapter import DENOISER
from perfusion_registry.adapters.modules import Modules

_WIDTHS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
_CROSS = re.compile(
    r"attn2[._](processor[._])?to_[kv](_lora)?[._].*?(lora_A|lora_down|down)(\.\w+)?\.weight$"
)
_MARKS: tuple[tuple[str, str], ...] = (
    (r"(double|single)_blocks|single_transformer_blocks", "FLUX"),
    (r"joint_blocks|^lora_te3_|^lora_transformer_transformer_blocks_\d+_attn_add", "Stable Diffusion 3"),
    (
        r"llm_adapter|[._]blocks[._]\d+[._](cross|self)_attn[._](q|k|v|output)_proj|[._]blocks[._]\d+[._]adaln",
        "Anima",
    ),
    (r"transformer_blocks[._]\d+[._](attn[._](add_|to_)|img_mlp|txt_mlp)", "Qwen-Image"),
    (r"[._]blocks[._]\d+[._](cross|self)_attn[._](q|k|v|o)\.", "Wan"),
    (r"[._]blocks[._]\d+[._]attn[._](gate|wq|wk|wv|qkv)", "Krea 2"),
    (r"[._]layers[._]\d+[._](attention|feed_forward)[._]", "Z-Image or Lumina"),
    (r"^lora_prior_|[._]prior[._]", "Stable Cascade"),
)


def base_of_keys(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The kind of base that a file was made for, by its keys and shapes; None where they do not tell."""
    for mark, kind in _MARKS:
        pattern = re.compile(mark)
        if any(pattern.search(key) for key in shapes):
            return kind
    widths = {shape[1] for key, shape in shapes.items() if len(shape) > 1 and _CROSS.search(key)}
    return _WIDTHS.get(widths.pop()) if len(widths) == 1 else None


def base_of_modules(modules: Modules) -> str:
    """The kind of a base with these modules, in words."""
    widths = text_widths(modules.get(DENOISER, {}).items())
    if len(widths) == 1 and (kind := _WIDTHS.get(next(iter(widths)))):
        return kind
    told = " and ".join(map(str, sorted(widths))) or "no"
    return f"one whose text is {told} wide"


def text_widths(modules: Iterable[tuple[str, tuple[int, ...]]]) -> set[int]:
    """The widths of text that cross-attention layers take. modules: paths with shapes of weights."""
    return {shape[1] for path, shape in modules if path.endswith((".attn2.to_k", ".attn2.to_v"))}
