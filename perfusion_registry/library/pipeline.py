"""Concepts in a diffusers pipeline that is already in somebody's program."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.compose.concept import Concept
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.library.gates import Gates, gate_sources
from perfusion_registry.operations.load import LoadOptions
from perfusion_registry.operations.load import load_concepts as load
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.render.request import read_negative
from perfusion_registry.reporter import Logging, Reporter
from perfusion_registry.resolve.platform import Platform

if TYPE_CHECKING:
    from perfusion_registry.base import Base, Form

Source = str | Path
"""An artifact's file (`teddy.safetensors`), a lockfile or its folder, or a release (`teddy>=1.2`)."""


def load_concepts(
    pipe: Any,
    *sources: Source,
    registry: str | None = None,
    require_signed: bool = False,
    store: str | Path | None = None,
    offline: bool = False,
    reporter: Reporter | None = None,
) -> dict[str, Concept]:
    """Concepts for a pipeline, by their names; to be loaded once and given to `composed` as often as needed.

    sources: artifacts' files, whose names end in `.safetensors`; lockfiles, as files, folders that have one,
    or http(s) addresses, of which all concepts are loaded; and releases of a registry, `teddy` or
    `teddy>=1.2,<2`, of which the newest is taken that was built for the pipeline's base.

    registry: of the releases: an address, or a name in the manifest of the project around. require_signed:
    refuse releases that nobody signed. What is not in the store of this machine is fetched into it. Raises
    PerfError.
    """
    from perfusion_registry.base import wrap

    return _loaded(wrap(pipe), sources, registry, require_signed, store, offline, reporter)


@contextmanager
def composed(
    pipe: Any,
    prompt: str,
    concepts: Mapping[str, Concept] | Source | Collection[Source],
    *,
    negative_prompt: str = "",
    gates: Gates | None = None,
    registry: str | None = None,
    form: Form | None = None,
    reporter: Reporter | None = None,
) -> Iterator[dict[str, Any]]:
    """A context in which a diffusers pipeline draws a prompt with concepts; it yields how to call it.

    What it yields stands in the place of `prompt` and `negative_prompt`; every other argument is yours:
    `pipe(**call, image=photo, strength=0.6, num_images_per_prompt=4)`. Any pipeline of a base that perf knows
    will do: text to image, image to image, inpainting (of denoisers with 9 channels too), and each of them
    with ControlNets, which read the prompt with the supercategories. On leaving, its modules are the very
    ones that it had before, whatever happened inside.

    pipe: with its components loaded; LoRA adapters of its denoiser may be merged or not. prompt: with a star
    behind each concept, and gates in braces where wanted. concepts: of `load_concepts`, or what it takes; the
    prompt need not call them all. negative_prompt: without concepts. gates: for all concepts or by name.
    registry: as in `load_concepts`. form: `packed` or `thin`; by default what costs less (docs/bases.md).

    Inside, no other thread can draw with the pipeline's denoiser: it waits for its turn. So leave it between
    two batches, and do not `yield` inside. Raises PerfError for mistakes in the prompt, for concepts of
    another base, for a pipeline that cannot carry concepts, and inside another `composed` of the same thread.
    """
    parsed = parse_prompt(prompt)
    negative = read_negative(negative_prompt)

    from perfusion_registry.base import beside, wrap
    from perfusion_registry.base.forms import read_form
    from perfusion_registry.compose.composing import compose, warn_of_negative
    from perfusion_registry.compose.encoding import spelled_out
    from perfusion_registry.compose.focusing import residuals
    from perfusion_registry.compose.packing import edited
    from perfusion_registry.compose.tokenising import needs_encoding

    form = None if form is None else read_form(form, "form")
    base = wrap(pipe)
    if not isinstance(concepts, Mapping):
        sources = (concepts,) if isinstance(concepts, str | Path) else tuple(concepts)
        concepts = _loaded(base, sources, registry, False, None, False, reporter)
    reporter = reporter or Logging()
    composition = compose(parsed, concepts, base, gate_sources(gates), known=concepts, reporter=reporter)
    warn_of_negative(base, negative, reporter)
    prompts = [composition.parsed, negative]
    if not composition.concepts and not needs_encoding(base, prompts, {}):
        with base.exclusive():
            yield base.plain_inputs([parsed.spoken({})], [negative.spoken({})])
        return
    artifacts = {name: concepts[name].artifact for name in parsed.names}
    read = edited(base, composition, artifacts, prompts, form=form)
    extra = residuals(base, composition, artifacts)
    wanted, unwanted = extra.marked(read, prompts)
    if base.readers:
        spelled = spelled_out(base, composition, prompts, least=wanted.states.shape[1])
        wanted, unwanted = beside(wanted, spelled.rows([0])), beside(unwanted, spelled.rows([1]))
    inputs = base.inputs(wanted, unwanted if negative_prompt else base.without_negative(unwanted))
    with extra.attached(base, thin=read.thin):
        yield inputs


def _loaded(
    base: Base,
    sources: tuple[Source, ...],
    registry: str | None,
    require_signed: bool,
    store: str | Path | None,
    offline: bool,
    reporter: Reporter | None,
) -> dict[str, Concept]:
    description = base.description
    options = LoadOptions(
        sources=sources,
        platform=Platform(description.repo, description.family, None, description.architecture),
        registry=registry,
        require_signed=require_signed,
    )
    folder = Path(store) if store else None
    with Workspace.open(
        store=folder, offline=offline, reporter=reporter or Logging(), lockfile_alone=True, optional=True
    ) as workspace:
        return load(workspace, options)
