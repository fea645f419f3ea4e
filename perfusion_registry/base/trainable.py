"""Whether concepts can be trained on a base at all, told from its configuration before any long work."""

from __future__ import annotations

import re

from perfusion_registry.base.card import BaseCard
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.errors import PerfError

CHAIN_PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What a denoiser over a chain of noise levels may answer."""

_OTHER_FAMILY = "build with a base of the same family, and draw with this one"

# Schedulers without the chain of noise levels of DDPM: denoisers that were trained with them answer another
# question than Eq. 3 asks. Of a class that is not here the scheduler itself decides (`Diffusion.of`).
_NO_CHAIN = re.compile(
    r"EDM|FlowM|^(Flow|Piflow)|Karras(Ve)|ScoreSde|CMStochastic|Consistency|IPNDM|SCM|Amused|VQDiffusion|Wuerstchen"
    r"|Helios|RFScheduler|MiniMax|BlockRefinement|EntropyBound|DiscreteDDIM|Proteina"
)


def require_noise_chain(files: BaseFiles) -> None:
    """Raise PerfError where the base's scheduler has no chain of noise levels to train on."""
    scheduler = files.scheduler
    name, prediction = str(scheduler.get("_class_name", "")), scheduler.get("prediction_type", "epsilon")
    where = files.place("scheduler")
    if _NO_CHAIN.search(name):
        raise PerfError(
            f"no concept can be trained on this base: its scheduler, {name}, has no chain of noise levels",
            where=where,
            hint=_OTHER_FAMILY,
        )
    if prediction not in CHAIN_PREDICTIONS or scheduler.get("use_flow_sigmas"):
        kind = "flow" if scheduler.get("use_flow_sigmas") else prediction
        raise PerfError(
            f"no concept can be trained on this base: its scheduler predicts {kind!r}",
            where=where,
            hint=_OTHER_FAMILY,
        )


def require_size(files: BaseFiles, card: BaseCard, denoiser: str) -> None:
    """Raise PerfError where nothing says how large the base draws: neither its card nor its denoiser."""
    if (
        not {"width", "height"} <= card.render.keys()
        and files.configuration(denoiser).get("sample_size") is None
    ):
        raise PerfError(
            "the base does not say what size it was made for",
            where=files.place(denoiser),
            hint="set width and height under [base] in perfusion.toml, "
            "or under [render] in a perf-base.toml in the base's folder",
        )
