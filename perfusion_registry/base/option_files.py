"""From what `[base]` says to what it comes to: each thing found, and refused where it does not fit the base.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from perfusion_registry.base.adapted import modules_of_files
from perfusion_registry.base.architecture import Architecture
from perfusion_registry.base.control_files import ControlFinder
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.options import BaseOptions, SaidOfBase
from perfusion_registry.base.scheduler_names import SHORT_NAMES, schedulers_of
from perfusion_registry.base.side_files import SideFinder
from perfusion_registry.errors import PerfError
from perfusion_registry.suggestions import did_you_mean


def find_options(
    said: SaidOfBase | None, kind: Architecture, name: str, files: BaseFiles, allow_download: bool | None
) -> BaseOptions:
    """What `[base]` comes to for a base. name: the base's. allow_download: as in `describe_base`.

    Raises PerfError, with its place in the manifest, for what is not here, is something else, or does not fit
    this kind of base.
    """
    section = said.section.without_prediction if said else None
    if said is None or section is None or not section.said:
        return BaseOptions()
    _check_known(said, kind)
    _check_scheduler(said, files)
    find = SideFinder(said, allow_download)
    encoders = [component for component in kind.text if component in kind.models]
    configurations = [files.configuration(encoder) for encoder in encoders]
    widths = [int(told.get("hidden_size", 0)) for told in configurations]
    modules = modules_of_files(files) if section.lora else {}
    control = ControlFinder(find, name, files)
    return BaseOptions(
        left_out=_left_out(said, kind, files),
        vae=find.autoencoder(files.configuration("vae"), str(files.classes["vae"])) if section.vae else None,
        unet=find.unet(files) if section.unet else None,
        scorer=find.model("scorer", "scorer", "clip", "a CLIP model"),
        segmenter=find.model("segmenter", "segmenter", "clipseg", "a CLIPSeg model"),
        loras=tuple(find.lora(number, entry, modules) for number, entry in enumerate(section.lora)),
        embeddings=tuple(
            find.embedding(word, named, widths) for word, named in sorted(section.embeddings.items())
        ),
        controls=tuple(control.control(*each) for each in sorted(section.controls.items())),
        said=section,
    )


def _check_known(said: SaidOfBase, kind: Architecture) -> None:
    """Refuse what an architecture of another distribution would leave out in silence."""
    applied: frozenset[str] = getattr(kind, "options", frozenset())
    for key in ("clip_skip", "vae", "unet", "lora", "embeddings", "controls"):
        if key in said.section.said and key not in applied:
            raise PerfError(
                f"bases of the kind {kind.name} have no `{key}`",
                where=said.at(key),
                hint="take the line out",
            )


def _check_scheduler(said: SaidOfBase, files: BaseFiles) -> None:
    named = said.section.scheduler
    own = str(files.scheduler.get("_class_name", ""))
    there = schedulers_of(own)
    if named is None or not own or SHORT_NAMES.get(named, named) in there:
        return
    raise PerfError(
        f"the base's scheduler, {own}, has no form as {named}",
        where=said.at("scheduler"),
        hint=did_you_mean(named, [*there, *SHORT_NAMES], f"there are {', '.join(there)}"),
    )


def _left_out(said: SaidOfBase, kind: Architecture, files: BaseFiles) -> Mapping[str, int]:
    skip = said.section.clip_skip
    if skip is None:
        return {}
    try:
        left: Mapping[str, int] = kind.layers_left_out(files, skip)  # type: ignore[attr-defined]
    except ValueError as error:
        raise PerfError(str(error), where=said.at("clip_skip"), hint="take the line out") from None
    return {component: number for component, number in left.items() if number}
