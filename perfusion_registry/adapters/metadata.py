"""What the header of an adapter's file says of it: the base it was made for, its word, its licence.

    modelspec.*             Stability AI's model specification, of many tools
    ss_*                    kohya's sd-scripts
    lora_adapter_metadata   peft's configuration, as diffusers writes it: JSON with `unet.lora_alpha` and so

Importing this needs no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perfusion_registry.adapters.adapter import DENOISER
from perfusion_registry.errors import PerfError, one_line

PEFT = "lora_adapter_metadata"
_ARCHITECTURES = (
    (r"^stable-diffusion-xl", "SDXL"),
    (r"^sdxl", "SDXL"),
    (r"^stable-diffusion-v2|^sd_?v2|^sd_2", "Stable Diffusion 2"),
    (r"^stable-diffusion-v1|^sd_?v1|^sd_1", "Stable Diffusion 1"),
    (r"^stable-diffusion-3|^sd3", "Stable Diffusion 3"),
    (r"^flux", "FLUX"),
    (r"^anima", "Anima"),
)
_FOLDER = re.compile(r"(?:\d+_)?(?P<words>.+)")


def base_kind(metadata: Mapping[str, str]) -> str | None:
    """The kind of base that a file says it was made for, as `SDXL`; as it says it, where that is none that is
    known here; None where it says nothing."""
    for key in ("modelspec.architecture", "ss_base_model_version"):
        said = metadata.get(key, "").strip()
        if said:
            known = (kind for mark, kind in _ARCHITECTURES if re.match(mark, said.lower()))
            return next(known, one_line(said, 80))
    return None


def base_name(metadata: Mapping[str, str]) -> str | None:
    """The name of the base that a file was trained on; None where it says none."""
    said = one_line(metadata.get("ss_sd_model_name", ""), 200)
    return said if said and said != "None" else None


def licence(metadata: Mapping[str, str]) -> str | None:
    """The licence that a file says it has; None where it says none."""
    return one_line(metadata.get("modelspec.license", ""), 200) or None


def words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The words that call what was learned: the trigger phrase, else the names of the folders that it was
    trained from, which are `10_ohwx cat` for ten repeats of "ohwx cat"."""
    said = one_line(metadata.get("modelspec.trigger_phrase", ""), 200)
    if said:
        return (said,)
    folders: list[str] = []
    for key in ("ss_tag_frequency", "ss_dataset_dirs"):
        read = _json(metadata.get(key, ""))
        folders += read if isinstance(read, dict) else []
    found = (_FOLDER.fullmatch(one_line(folder, 200)) for folder in folders)
    return tuple(dict.fromkeys(match["words"].strip() for match in found if match is not None))


@dataclass(frozen=True)
class PeftSettings:
    """What peft's configurations say of scales. of: by component; under "" that of a whole file."""

    of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def alpha(self, component: str, module: str, rank: int) -> float | None:
        """What the factors of a module are multiplied with, times their rank; None where nothing says.

        Raises PerfError for a configuration whose numbers are none.
        """
        said = self.of.get(component) or self.of.get("") or {}
        patterns = said.get("alpha_pattern") or {}
        try:
            own = (value for name, value in patterns.items() if _is_at(name, module))
            alpha = next(own, said.get("lora_alpha", said.get("alpha")))
            if alpha is None:
                return None
            return float(alpha) * (rank**0.5 if said.get("use_rslora") else 1)
        except (TypeError, ValueError, AttributeError) as error:
            raise PerfError(f"peft's configuration has no number as the alpha of `{module}`") from error


def peft_settings(metadata: Mapping[str, str], beside: Mapping[str, Any] | None = None) -> PeftSettings:
    """Of a file's metadata, or of `adapter_config.json` beside it.

    Raises PerfError where peft says that the file is of a kind that is none of ours.
    """
    said = dict(beside or {})
    if said:
        kind = str(said.get("peft_type", "LORA")).upper()
        if kind not in ("LORA", "LOHA", "LOKR"):
            raise PerfError(
                f"this adapter is peft's {one_line(kind, 40)}, and perf reads LoRA, LoHa and LoKr",
                hint="take a LoRA, or the model with it merged in",
            )
        return PeftSettings({"": said})
    read = _json(metadata.get(PEFT, ""))
    of: dict[str, dict[str, Any]] = {}
    for key, value in (read if isinstance(read, dict) else {}).items():
        component, _, name = key.partition(".")
        of.setdefault(DENOISER if component == "unet" else component, {})[name] = value
    return PeftSettings(of)


def _is_at(pattern: str, module: str) -> bool:
    """Whether peft's pattern, the end of a path, is this module's."""
    try:
        return re.fullmatch(rf"(.*\.)?({pattern})", module) is not None
    except re.error:
        return False


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
