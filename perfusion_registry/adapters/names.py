"""What the modules of a base are called in files: by paths, with `_` for each `.`, and as CompVis names them.

All names are generated from the modules of the base itself (`modules_of`). Importing this needs no torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property

from perfusion_registry.adapters.adapter import COMPONENTS, DENOISER, Component
from perfusion_registry.adapters.modules import Modules

_OUTSIDE = {
    "conv_in": "input_blocks_0_0",
    "conv_norm_out": "out_0",
    "conv_out": "out_2",
    "time_embedding.linear_1": "time_embed_0",
    "time_embedding.linear_2": "time_embed_2",
    "add_embedding.linear_1": "label_emb_0_0",
    "add_embedding.linear_2": "label_emb_0_2",
}
_RESNET = {
    "norm1": "in_layers_0",
    "conv1": "in_layers_2",
    "time_emb_proj": "emb_layers_1",
    "norm2": "out_layers_0",
    "conv2": "out_layers_3",
    "conv_shortcut": "skip_connection",
}
_IN_BLOCK = re.compile(
    r"(?:(?P<side>down|up)_blocks\.(?P<block>\d+)|mid_block)"
    r"\.(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<number>\d+)\.(?P<rest>.+)"
)
# Of text encoders as diffusers named them while processors held a LoRA.
_OLD_ATTENTION = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
_LISTED = re.compile(r"(?:down|up)_blocks\.\d+\.(?:resnets|attentions)\.\d+")
_TEXT = "text_model."


class ModuleNames:
    """Finds the module that a file means. modules: of the base."""

    def __init__(self, modules: Modules) -> None:
        self.modules = modules

    def find(self, component: Component, called: str) -> str | None:
        """The path of a module of a component by any of its names, with `.` or `_`; None where it has none of
        that name."""
        return self._known.get(component, {}).get(_flat(called))

    def somewhere(self, called: str) -> tuple[Component, str] | None:
        """The same for a name that does not say of which component it is: the first that has it."""
        for component in COMPONENTS:
            path = self.find(component, called)
            if path is not None:
                return component, path
        return None

    def compvis(self, path: str) -> str | None:
        """The name that SGM and CompVis have for a module of the denoiser, with `_` for each `.`."""
        return _compvis(path, self._counts)

    @cached_property
    def _counts(self) -> Counter[str]:
        """How many modules stand in each list of blocks of the denoiser, such as `up_blocks.0.resnets`."""
        listed = {match[0] for path in self.modules.get(DENOISER, {}) if (match := _LISTED.match(path))}
        return Counter(path.rpartition(".")[0] for path in listed)

    @cached_property
    def _known(self) -> dict[str, dict[str, str]]:
        return {
            component: {name: path for path in paths for name in _names(component, path, self._counts)}
            for component, paths in self.modules.items()
        }


def _names(component: str, path: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield _flat(path)
    if component == DENOISER:
        name = _compvis(path, counts)
        if name is not None:
            yield name
            yield f"model_diffusion_model_{name}"
        return
    plain = path.removeprefix(_TEXT)
    for old, new in (("", ""), *_OLD_ATTENTION.items()):
        renamed = _flat(plain.replace(old, new)) if old else _flat(plain)
        yield renamed
        yield _flat(_TEXT) + renamed
        if new == "to_out":
            yield f"{renamed}_0"


def _flat(path: str) -> str:
    return path.replace(".", "_")


def _compvis(path: str, counts: Mapping[str, int]) -> str | None:
    if path in _OUTSIDE:
        return _OUTSIDE[path]
    match = _IN_BLOCK.fullmatch(path)
    if match is None:
        return None
    kind, number, rest = match["kind"], int(match["number"]), _flat(match["rest"])
    if kind == "resnets":
        rest = _RESNET.get(rest, rest)
    if match["side"] is None:
        return f"middle_block_{1 if kind == 'attentions' else 2 * number}_{rest}"
    side, block = match["side"], int(match["block"])
    resnets = [counts[f"{side}_blocks.{before}.resnets"] for before in range(block + 1)]
    place = number if kind in ("resnets", "attentions") else resnets[block]
    if side == "down":
        at = 1 + sum(resnets[:block]) + block + place  # a sampler after each block
        inside = 1 if kind == "attentions" else 0
        return f"input_blocks_{at}_{inside}_{'op' if kind == 'downsamplers' else rest}"
    at = sum(resnets[:block]) + (place if kind in ("resnets", "attentions") else resnets[block] - 1)
    attends = counts[f"up_blocks.{block}.attentions"] > 0
    inside = {"resnets": 0, "attentions": 1}.get(kind, 2 if attends else 1)
    return f"output_blocks_{at}_{inside}_{rest}"
