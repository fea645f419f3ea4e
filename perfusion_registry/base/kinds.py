"""What a folder or a file is that is no base: told from its configuration and its tensors' names, without
torch, so that a refusal can say what to do instead."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfusion_registry.base.reference import PICKLES
from perfusion_registry.errors import PerfError
from perfusion_registry.safetensors_header import HeaderError, read_header

SUITABLE = 'use a base like Stable Diffusion 1.x, 2.x or SDXL, Anima or PixArt-Sigma, or "storybook"'
BESIDE = "name the base that it goes with, and this under [base.controls] in perfusion.toml"
"""What to do with a thing that is used beside a base."""
_CONVERT = "where diffusers reads it (`from_single_file`), make a folder of it with `save_pretrained`"
_WHOLE = "name the folder of the whole pipeline, the one with model_index.json or modular_model_index.json"


@dataclass(frozen=True)
class Kind:
    """A kind of thing. what: in words that follow "this is". hint: what to do instead."""

    what: str
    hint: str = SUITABLE


MOTION = Kind("a motion module of AnimateDiff, which draws video, not a base")
LORA = Kind("a LoRA, not a base", "name the base that it was made for; fused into it, it is part of it")
CONTROLNET = Kind("a ControlNet, not a base", BESIDE)
ADAPTER = Kind("a T2I-Adapter, not a base", BESIDE)
IP_ADAPTER = Kind("an IP-Adapter, not a base", BESIDE)
EMBEDDING = Kind("a textual-inversion embedding, not a base", "name the base that it was made for")
CONCEPT = Kind("a concept that perf built, not a base", "`perf add` and `composed` take concepts")
CHECKPOINT = Kind("a whole model in one file, of a kind that perf does not know", _CONVERT)
JOINT = Kind(
    "a model with joint attention, where text has no keys and values of its own: it cannot carry concepts"
)
VIDEO = Kind("a model that draws video, not pictures")
ANIMA = Kind(
    "Anima's transformer and text conditioner in one file, without Qwen, the VAE and the tokenizers",
    "name a folder of all of it, as diffusers has it (circlestone-labs/Anima-Base-v1.0-Diffusers)",
)
PIXART = Kind(
    "PixArt's or Sana's transformer alone, in names that are not diffusers'",
    "name a folder of PixArt-Sigma, with its T5 encoder, VAE and tokenizer, as diffusers has it",
)
UNKNOWN = Kind("a file of tensors that perf does not know, not a base")
_OTHER_TEXT = "whose text encoder is not CLIP's, so it needs an architecture of its own"

# Before the names of a denoiser's tensors: none, CompVis', or that of who trained it.
_AT = r"^(?:model\.diffusion_model\.|net\.|model\.|module\.)?"
# A tensor whose name matches tells the kind of a file; the first that does.
_MARKERS: tuple[tuple[str, Kind], ...] = (
    (r"\.lora_(A|B|down|up)\.|\.lora\.(down|up)\.|\.(hada|lokr)_w|_lora\.(down|up)\.|\.dora_scale$", LORA),
    (
        r"^(control_model\.)?input_hint_block\.|^controlnet_cond_embedding\.|^controlnet_down_blocks\.",
        CONTROLNET,
    ),
    (r"^lllite_|^control_add_embedding\.", CONTROLNET),
    (r"^(image_proj|ip_adapter)\.", IP_ADAPTER),
    (r"^(adapter\.)?body\.\d+\.(resnets|block1|in_conv)", ADAPTER),
    (r"^(emb_params|clip_[lg]|string_to_param.*|<[^<>]+>)$", EMBEDDING),
    (
        rf"{_AT}(double_blocks|joint_blocks|joint_transformer_blocks|double_layers|double_stream_blocks)\.",
        JOINT,
    ),
    (rf"{_AT}(cap_embedder\.|transformer_blocks\.0\.img_mod\.|txt_in\.text_norm\.)", JOINT),
    (rf"{_AT}llm_adapter\.blocks\.", ANIMA),
    (
        rf"{_AT}(head\.modulation$|vace_blocks\.|patchify_proj\.|blocks\.0\.attn\.qkv_x\.|blocks\.block1\.)"
        rf"|{_AT}txt_in\.individual_token_refiner\.",
        VIDEO,
    ),
    (rf"{_AT}blocks\.0\.mlp\.layer1\.", Kind(f"Cosmos-Predict2, {_OTHER_TEXT}")),
    (rf"{_AT}blocks\.\d+\.cross_attn\.kv_linear\.", PIXART),
    (rf"{_AT}mlp_t5\.", Kind(f"Hunyuan-DiT, {_OTHER_TEXT}")),
    (rf"{_AT}encoder_hid_proj\.", Kind(f"Kolors, {_OTHER_TEXT}")),
    (
        rf"{_AT}(clip_txt_mapper|clip_mapper|clf\.1)\.",
        Kind("a stage of Stable Cascade, whose text goes through layers that are not linear"),
    ),
    (r"^model\.diffusion_model\.", CHECKPOINT),
    (r"\.motion_modules\.", MOTION),
    (r"^(down_blocks|input_blocks)\.\d+\..*attn2\.", Kind("a UNet alone, not a base", _WHOLE)),
    (r"^(first_stage_model\.)?(encoder|decoder)\.(conv_in|mid)", Kind("an autoencoder, not a base", _WHOLE)),
    (
        r"^((transformer\.)?text_model\.)?embeddings\.token_embedding\.|^shared\.|^model\.embed_tokens\.",
        Kind("a text encoder, not a base", _WHOLE),
    ),
)

# The class that a model's config.json names, and the kind; the first whose expression is in it.
_MODELS: tuple[tuple[str, Kind], ...] = (
    (r"ControlNet|SparseControlNet", CONTROLNET),
    (r"T2IAdapter|MultiAdapter", ADAPTER),
    (r"MotionAdapter", MOTION),
    (r"^UNet", Kind("a UNet alone, not a base", _WHOLE)),
    (r"^Autoencoder|^VQModel|^ConsistencyDecoder", Kind("an autoencoder, not a base", _WHOLE)),
    (r"Transformer\w*Model$", Kind("a transformer alone, not a base", _WHOLE)),
)

# Components that a whole base has none of, and what a pipeline with them is.
COMPONENTS: Mapping[str, str] = {
    "controlnet": "it has a ControlNet, which perf would leave out",
    "adapter": "it has a T2I-Adapter, which perf would leave out",
    "motion_adapter": "it draws video",
    "low_res_scheduler": "it makes pictures larger",
    "image_normalizer": "it is called with a picture beside the prompt",
    "image_noising_scheduler": "it is called with a picture beside the prompt",
    "prior": "it draws in two stages, and text reaches only the first",
    "prior_prior": "it draws in two stages, and text reaches only the first",
}


def kind_of_tensors(names: Iterable[str], metadata: Mapping[str, str] | None = None) -> Kind | None:
    """What a file with tensors of these names is; None for one that nothing is known of.

    metadata: of its header; perf's own files and Kohya's tell by it too.
    """
    if any(key.startswith("ss_network_") for key in metadata or {}):
        return LORA
    if "concept" in (metadata or {}):  # the card of an artifact
        return CONCEPT
    listed = list(names)
    for marker, kind in _MARKERS:
        pattern = re.compile(marker)
        if any(pattern.search(name) for name in listed):
            return kind
    return None


def kind_of_file(path: Path) -> Kind:
    """What a file is. Opens no pickle."""
    if path.suffix.lower() in PICKLES:
        return Kind("a pickle, which perf never opens", "convert it to safetensors first")
    if path.suffix.lower() == ".gguf":
        return Kind(
            "a GGUF file, which has a UNet at most, not a base",
            "name a base of its kind, and this as `unet` under [base] in perfusion.toml",
        )
    if path.suffix.lower() == ".toml":
        return Kind("a project's manifest, not a base", "name the base that it names")
    try:
        header = read_header(path)
    except (OSError, HeaderError) as error:
        return Kind(f"no whole safetensors file: {error}", "fetch it again, or name a base's folder")
    known = kind_of_tensors(header.tensors, header.metadata)
    return known or UNKNOWN


def kind_of_folder(folder: Path) -> Kind:
    """What a folder without `model_index.json` is."""
    if (folder / "adapter_config.json").is_file():
        return LORA
    configuration = _json(folder / "config.json")
    named = str(configuration.get("_class_name", ""))
    for expression, kind in _MODELS:
        if re.search(expression, named):
            return kind
    if named or configuration:
        of = (
            named
            or ", ".join(map(str, configuration.get("architectures") or ()))
            or configuration.get("model_type", "")
        )
        return Kind(f"one model ({of}), not a text-to-image pipeline", _WHOLE) if of else _UNKNOWN
    if (folder / "snapshots").is_dir() and (folder / "refs").is_dir():
        repo = "/".join(folder.name.removeprefix("models--").split("--", 1))
        return Kind("the Hub's cache of a model", f'name the model, as in base = "{repo}"')
    files = sorted(path for path in folder.iterdir() if path.is_file())
    kinds = {kind_of_file(path) for path in files if path.suffix.lower() == ".safetensors"}
    if len(kinds) == 1:
        return kinds.pop()
    if not kinds and (pickles := [path for path in files if path.suffix.lower() in PICKLES]):
        return kind_of_file(pickles[0])
    inside = sorted({path.parent.name for path in folder.glob("*/*model_index.json")})
    if inside:
        return Kind("a folder of bases", f"name one of them: {', '.join(inside[:5])}")
    return _UNKNOWN


_UNKNOWN = Kind("not a diffusers folder: it has no model_index.json")


def no_base(path: Path) -> PerfError:
    """The refusal of a file, or of a folder without `model_index.json`."""
    kind = kind_of_file(path) if path.is_file() else kind_of_folder(path)
    return PerfError(f"this is {kind.what}", where=str(path), hint=kind.hint)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
