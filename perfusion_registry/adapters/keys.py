"""What the key of a tensor in a file says: of which component and module it is, what it is there, and in
whose dialect it is written. Importing this needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from perfusion_registry.adapters.adapter import ALPHA, DENOISER, Component
from perfusion_registry.adapters.names import ModuleNames

MAGNITUDE = "dora_scale"

# How a key ends, and what that tensor is called here; what is before is the module. A name between dots is
# the adapter's, which peft may leave there.
_ENDS: tuple[tuple[str, str], ...] = (
    (r"\.lora_(?P<name>down|up|mid)(\.weight)?", "lora_{}"),
    (r"[._]lora\.(?P<name>down|up)\.weight", "lora_{}"),
    (r"\.lora_linear_layer\.(?P<name>down|up)\.weight", "lora_{}"),
    (r"\.lora_A(\.\w+)??(\.weight)?", "lora_down"),
    (r"\.lora_B(\.\w+)??(\.weight)?", "lora_up"),
    (r"\.lora_B(\.\w+)??\.bias", "lora_bias"),
    (r"\.lora_magnitude_vector(\.\w+)??(\.weight)?", "lora_magnitude_vector"),
    (r"\.magnitude", MAGNITUDE),
    (r"\.(?P<name>hada_(w[12]_[ab]|t[12]))(\.\w+)?", "{}"),
    (r"\.(?P<name>lokr_(w[12](_[ab])?|t2))(\.\w+)?", "{}"),
    (r"\.(?P<name>diff_b|diff|dora_scale|alpha)", "{}"),
    (r"\.w_norm", "diff"),
    (r"\.b_norm", "diff_b"),
)
_ENDINGS = [(re.compile(rf"(?P<module>.+?){pattern}"), name) for pattern, name in _ENDS]

_ANY: Component | None = None
# What a module's name begins with, and of which component it is then; the first that fits.
_BEGINNINGS: tuple[tuple[str, Component | None, str], ...] = (
    ("lora_unet_", DENOISER, "kohya"),
    ("lora_te1_", "text_encoder", "kohya"),
    ("lora_te2_", "text_encoder_2", "kohya"),
    ("lora_te_", "text_encoder", "kohya"),
    ("lycoris_", _ANY, "LyCORIS"),
    ("unet.base_model.model.", DENOISER, "PEFT"),
    ("text_encoder.base_model.model.", "text_encoder", "PEFT"),
    ("text_encoder_2.base_model.model.", "text_encoder_2", "PEFT"),
    ("base_model.model.", _ANY, "PEFT"),
    ("unet.", DENOISER, "diffusers"),
    ("text_encoder.", "text_encoder", "diffusers"),
    ("text_encoder_2.", "text_encoder_2", "diffusers"),
    ("model.diffusion_model.", DENOISER, "ComfyUI"),
    ("diffusion_model.", DENOISER, "ComfyUI"),
    ("text_encoders.clip_l.transformer.", "text_encoder", "ComfyUI"),
    ("text_encoders.clip_h.transformer.", "text_encoder", "ComfyUI"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2", "ComfyUI"),
    ("clip_l.transformer.", "text_encoder", "ComfyUI"),
    ("clip_h.transformer.", "text_encoder", "ComfyUI"),
    ("clip_g.transformer.", "text_encoder_2", "ComfyUI"),
    ("clip_l.", "text_encoder", "OneTrainer"),
    ("clip_g.", "text_encoder_2", "OneTrainer"),
    ("", _ANY, "PEFT"),
)
# Attention layers as diffusers named them while processors held the LoRA.
_PROCESSOR = re.compile(r"\.processor\.to_(q|k|v|out)$")

OTHER_KINDS: Mapping[str, str] = {
    r"\.oft_(blocks|diag|R)|\.oft_r\b": "OFT or BOFT",
    r"\.boft_": "OFT or BOFT",
    r"\.(a1|a2|b1|b2|bm)\.weight$": "GLoRA",
    r"\.on_input$|\.ia3_l": "(IA)^3",
    r"\.(q_layer|p_layer)\.weight$|\.lambda_layer$": "T-LoRA",
    r"\.vera_lambda": "VeRA",
}
"""Kin of LoRA that are none of ours, by a mark in their keys."""


@dataclass(frozen=True)
class Key:
    """A key of a file, taken apart. component: None where it does not say. module: as it is called there.
    name: of the tensor, by LyCORIS' names, or `lora_bias` and `lora_magnitude_vector` as peft has them."""

    component: Component | None
    module: str
    name: str
    dialect: str

    def place(self, names: ModuleNames) -> tuple[Component, str] | None:
        """The component and the path of its module in a base; None where the base has no such."""
        if self.component is None:
            return names.somewhere(self.module)
        path = names.find(self.component, self.module)
        return None if path is None else (self.component, path)


def read_key(text: str) -> Key | None:
    """What a key says; None for one that is no adapter's."""
    for pattern, template in _ENDINGS:
        match = pattern.fullmatch(text)
        if match is not None:
            name = template.format(match.groupdict().get("name"))
            return _key(match["module"], name)
    return None


def _key(module: str, name: str) -> Key:
    for beginning, component, dialect in _BEGINNINGS:
        if module.startswith(beginning) and module != beginning:
            rest = module.removeprefix(beginning)
            rest = _PROCESSOR.sub(lambda found: ".to_out.0" if found[1] == "out" else f".to_{found[1]}", rest)
            return Key(component, rest, name, dialect)
    raise AssertionError("the last beginning fits every name")


def dialect_of(keys: Iterable[str], metadata: Mapping[str, str]) -> str:
    """Who writes such files, in one word. keys: of tensors that `read_key` knows. metadata: of the header."""
    listed = list(keys)
    read = [key for key in map(read_key, listed) if key is not None]
    names = {key.name for key in read if key.name != ALPHA}
    said = [key.dialect for key in read] or [""]
    dialect = max(dict.fromkeys(said), key=said.count)
    if any(key.startswith("ot_") for key in metadata):
        return "OneTrainer"
    if "LyCORIS" in said:
        return "LyCORIS"
    if dialect == "kohya" and any(name.startswith(("hada", "lokr", "diff", "dora")) for name in names):
        return "LyCORIS"
    return dialect


def other_kind(keys: Iterable[str]) -> str | None:
    """Which of `OTHER_KINDS` a file with these keys is; None for none of them."""
    for key in keys:
        for mark, called in OTHER_KINDS.items():
            if re.search(mark, key):
                return called
    return None
