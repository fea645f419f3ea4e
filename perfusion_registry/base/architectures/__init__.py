"""The kinds of bases: one file each, joined in a table that other distributions extend by entry points.

An entry point of the group `perfusion_registry.architectures` has the architecture's name for its name and an
`Architecture` for its object. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator

from perfusion_registry.base.architecture import Architecture
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.kinds import BESIDE, COMPONENTS, SUITABLE
from perfusion_registry.errors import PerfError
from perfusion_registry.plugins import load_object, load_plugin, plugin_names

ARCHITECTURES = {
    "anima": "perfusion_registry.base.architectures.anima:ARCHITECTURE",
    "pixart-sigma": "perfusion_registry.base.architectures.pixart_sigma:ARCHITECTURE",
    "sdxl": "perfusion_registry.base.architectures.sdxl:ARCHITECTURE",
    "stable-diffusion": "perfusion_registry.base.architectures.stable_diffusion:ARCHITECTURE",
}
"""The architectures that come with perf, in the order in which they are asked."""

ENTRY_POINTS = "perfusion_registry.architectures"
"""The group in which distributions name further ones; they replace none of `ARCHITECTURES`."""


def architecture(name: str) -> Architecture:
    """The architecture of that name. Raises PerfError where it is not installed, or cannot be used."""
    if name in ARCHITECTURES:
        shipped: Architecture = load_object(ARCHITECTURES[name])
        return shipped
    kind: type[Architecture] = Architecture  # type: ignore[type-abstract]
    brought = load_plugin(ENTRY_POINTS, name, kind, f"architecture `{name}`")
    if brought is None:
        known = sorted({*ARCHITECTURES, *plugin_names(ENTRY_POINTS)})
        raise PerfError(
            f"the architecture `{name}` is not installed",
            hint=f"install what brings it; there are {', '.join(known)}",
        )
    return brought


def every_architecture() -> Iterator[Architecture]:
    """perf's own architectures, then those that other distributions bring, by name."""
    yield from map(architecture, ARCHITECTURES)
    yield from map(architecture, sorted(plugin_names(ENTRY_POINTS) - ARCHITECTURES.keys()))


def recognise(files: BaseFiles) -> Architecture:
    """The architecture of a base. Raises PerfError, with the reason, for one that cannot carry concepts."""
    for known in every_architecture():
        if known.recognise(files):
            return known
    named = str(files.index.get("_class_name", "a model of an unknown kind"))
    beside = {"controlnet", "adapter"} & set(files.components)
    hint = BESIDE if beside else SUITABLE
    raise PerfError(f"{named} cannot carry concepts: {_why_not(files)}", where=str(files.folder), hint=hint)


def _why_not(files: BaseFiles) -> str:
    """What a base has, or lacks, that no architecture here can work with."""
    classes = files.classes
    for component in files.components:
        if component in COMPONENTS:
            return COMPONENTS[component]
    if classes.get("transformer"):
        return "it draws with a transformer instead of a UNet, of a kind that perf does not know"
    if classes.get("unet") != "UNet2DConditionModel":
        return "it has no UNet with text cross-attention"
    if classes.get("text_encoder_2") and not classes.get("text_encoder"):
        return "it is a refiner, which only finishes what another base has drawn"
    if classes.get("text_encoder_2"):
        return "its text encoders are not the two CLIP text models of SDXL"
    return "its text encoder is not a CLIP text model"
