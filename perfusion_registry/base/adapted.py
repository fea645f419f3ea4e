"""Which modules of a base adapters can change, by its configurations. Importing this needs no torch."""

from __future__ import annotations

from perfusion_registry.adapters.modules import Modules, modules_of
from perfusion_registry.base.checkpoint import CheckpointFiles
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.identity import BaseDescription
from perfusion_registry.errors import PerfError

_MODELS = ("unet", "text_encoder", "text_encoder_2")


def modules_of_files(files: BaseFiles) -> Modules:
    """Of a base in these files, with all layers of its text encoders. Raises PerfError for a UNet of other
    blocks than those of Stable Diffusion, and for a base without one."""
    there = [name for name in _MODELS if name in files.components]
    if "unet" not in there:
        raise PerfError(
            "the base has no UNet, and perf knows the LoRAs of bases with one",
            where=str(files.folder),
            hint="take a base of the kind of Stable Diffusion or SDXL",
        )
    return modules_of({name: files.configuration(name) for name in there})


def modules_of_base(description: BaseDescription) -> Modules:
    """Of a described base, as `modules_of_files` has them."""
    if description.prediction is None:
        return modules_of_files(BaseFiles(description.folder, description.variants))
    return modules_of_files(CheckpointFiles.open(description.folder, description.prediction.asked_again))
