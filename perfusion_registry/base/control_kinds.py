"""The kinds of networks that a picture controls, and which of diffusers' pipelines draw with them.

Importing this needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ControlKind = Literal["controlnet", "union", "adapter", "ip-adapter"]


@dataclass(frozen=True)
class KindOfControl:
    """called: in words that follow "this is". component: what a pipeline calls the network. scale: what its
    call calls the strength; "" where a strength is the network's own. starts: what diffusers draws from with
    it, beside the prompt; see `Base.pipelines`. over: whether its picture lies over what is drawn, place by
    place, and has its proportions."""

    called: str
    component: str
    scale: str = ""
    starts: tuple[str, ...] = ("text", "image", "inpaint")
    over: bool = True


CONTROL_KINDS: Mapping[ControlKind, KindOfControl] = {
    "controlnet": KindOfControl("a ControlNet", "controlnet", "controlnet_conditioning_scale"),
    "union": KindOfControl("a ControlNet-Union", "controlnet", "controlnet_conditioning_scale"),
    "adapter": KindOfControl("a T2I-Adapter", "adapter", "adapter_conditioning_scale", ("text",)),
    "ip-adapter": KindOfControl("an IP-Adapter", "image_encoder", over=False),
}

UNION_MODES: Mapping[str, int] = {
    "openpose": 0,
    "depth": 1,
    **dict.fromkeys(("scribble", "hed", "pidi", "ted", "softedge"), 2),
    **dict.fromkeys(("canny", "lineart", "anime_lineart", "mlsd"), 3),
    "normal": 4,
    "segment": 5,
    "tile": 6,
    "repaint": 7,
}
"""The pictures that a ControlNet-Union reads, as its authors number them (xinsir6/ControlNetPlus)."""


def union_mode(name: str) -> int | None:
    """The number of the kind of picture that a control is called after, such as `canny` or `canny-2`; None
    where it is called after none."""
    plain = re.sub(r"[-_]?[0-9]*$", "", name).replace("-", "_")
    return UNION_MODES.get(plain)


def pipeline_kind(start: str, control: ControlKind | None) -> str:
    """The key in `Base.pipelines` of what draws from this start, with controls of this kind; any pipeline
    takes an IP-Adapter."""
    return start if control in (None, "ip-adapter") else f"{start} {control}"
