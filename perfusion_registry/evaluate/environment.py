"""What a run of a suite depended on beside it: versions, bases, the machine, and the models that judge."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from perfusion_registry.artifact import digest_of
from perfusion_registry.base import BaseDescription
from perfusion_registry.base.digest import file_digest
from perfusion_registry.errors import PerfError
from perfusion_registry.evaluate.metrics import world, world_of
from perfusion_registry.evaluate.plan import Outline
from perfusion_registry.evaluate.results import Environment
from perfusion_registry.evaluate.worker import WorkerSetup
from perfusion_registry.version import __version__

_LIBRARIES = ("torch", "diffusers", "transformers", "numpy")


def environment(plan: Outline, setting: WorkerSetup) -> Environment:
    """The versions, the bases, the covariance and the machine."""
    base = plan.bases[""]
    device, dtype = plan.computing
    return Environment(
        perf=__version__,
        libraries={name: version for name in _LIBRARIES if (version := _version(name))},
        base=base.repo,
        base_digest=base.digest,
        base_revision=base.revision,
        bases={name: other.digest for name, other in plan.bases.items() if name},
        covariance=file_digest(setting.covariance),
        device=device,
        dtype=dtype,
        processor=platform.processor() or platform.machine(),
        dino=_folder_digest(setting.dino) if setting.dino else None,
    )


def judges(base: BaseDescription, dino: Path | None, clip: Path | None) -> str:
    """A digest of the models that judge: the base's CLIP, the drawn world's, DINO, the suite's CLIP."""
    digests = [base.digest, file_digest(world(world_of(base)).judge_file(str(base.folder)))]
    scorer = base.options.scorer
    others = [scorer.digest] if scorer is not None and clip is None else []
    return digest_of(
        [
            *digests,
            _folder_digest(dino) if dino else None,
            *([_folder_digest(clip, "CLIP")] if clip else ()),
            *others,
        ]
    )


def _folder_digest(folder: Path, what: str = "DINO") -> str:
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")])
    if not files:
        raise PerfError(
            f"the {what} model is missing",
            where=str(folder),
            hint="name a folder with its config.json, preprocessor_config.json and model.safetensors",
        )
    return digest_of([[path.name, file_digest(path)] for path in files])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
