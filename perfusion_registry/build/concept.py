"""Building one concept: images, masks and a supercategory in, an artifact out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.amounts import count
from perfusion_registry.artifact import Artifact, ConceptCard
from perfusion_registry.artifact.card import ARCHITECTURE, FIRST_PERF, in_format_1
from perfusion_registry.base.offload_kinds import require_whole_models
from perfusion_registry.build.ahead import AfterTraining
from perfusion_registry.build.captioned import CaptionPrompts, caption_prompts, cut_short
from perfusion_registry.build.checkpoint import CHECKPOINT
from perfusion_registry.build.covariance import Covariance
from perfusion_registry.build.framing import framed, sizes_of, square
from perfusion_registry.build.images import load_image, notes_on_all, notes_on_squaring
from perfusion_registry.build.latents import Latents, encode_latents, joined
from perfusion_registry.build.masks import MASK_STEPS, find_masks
from perfusion_registry.build.pairs import PICTURES, draw_pairs, paste, steps_to_draw
from perfusion_registry.build.prior import draw_prior, prior_prompt
from perfusion_registry.build.selection import Scores, select
from perfusion_registry.build.threads import as_begun
from perfusion_registry.build.training import TrainInputs, repeatable, train
from perfusion_registry.errors import PerfError
from perfusion_registry.memory import enough_memory
from perfusion_registry.methods.calls import CallWords
from perfusion_registry.methods.interface import Method
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.table import find_method
from perfusion_registry.methods.trainable import MakeTrainable
from perfusion_registry.recipe.captions import NOTHING_SAID, Caption, not_read
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import PriorOptions, TrainingOptions
from perfusion_registry.recipe.pictures import masks_beside
from perfusion_registry.recipe.recipe import DEFAULT_METHOD
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.base import Base

PRIORS = "priors.safetensors"


@dataclass(frozen=True)
class ConceptSources:
    """What a concept is made from, and what its card says of it.

    images: files, or their bytes. masks: one for each image, None where it has none; when left out, the mask
    files beside the images (`recipe.pictures`). captions: what is said of each image, where the method reads
    that; none when left out. method: how it is learned.
    """

    name: str
    version: str
    supercategory: str
    images: tuple[Path | bytes, ...]
    masks: tuple[Path | bytes | None, ...] = ()
    method: str = DEFAULT_METHOD
    licence: str | None = None
    authors: tuple[str, ...] = ()
    consent: str | None = None
    description: str | None = None
    captions: tuple[Caption, ...] = ()


def build_concept(
    base: Base,
    covariance: Covariance | None,
    sources: ConceptSources,
    train_options: TrainingOptions,
    render_options: FileModel,
    *,
    digest: str,
    make: MakeTrainable | None = None,
    workspace: Path | None = None,
    threads: int | None = None,
    timed: Callable[[int, float], None] | None = None,
    ahead: AfterTraining | None = None,
    reporter: Reporter | None = None,
) -> Artifact:
    """Train a concept and keep its best step. The same inputs give the same artifact on one kind of
    processor.

    covariance: None for a method that needs none. digest: the recipe digest, for the card. make: another way
    to train than the method's own. workspace: a folder for the checkpoint from which a killed build goes on,
    with as many threads as it had, or anew where `threads` were asked for and are others. timed: told how
    many steps were done now, and in how many seconds. ahead: what follows the training, for the time left
    that is told. Raises PerfError for images, masks, a supercategory or
    a covariance that cannot be used, and when training diverges.
    """
    reporter, ahead = reporter or Silent(), ahead or AfterTraining()
    require_whole_models(base.offload)
    name, word = sources.name, sources.supercategory
    if not sources.images:
        raise PerfError(f"Concept {name!r} has no images", hint="list some under `images` in its recipe")
    if (problem := base.several_tokens(word)) is not None:
        reporter.warn(f"{name}: {problem}")
    _ = base.objective  # a base that cannot be trained with is told before anything is prepared
    d, method = base.bank.width, find_method(sources.method)
    method.check_base(base, name, train_options)
    if not method.needs_covariance:
        covariance = None
    elif covariance is None:
        raise PerfError(f"Concept {name!r} needs a covariance, of the base that it is built for")
    elif covariance.width != d:
        what = f"The covariance has width {covariance.width}, the base's text encoder {d}"
        raise PerfError(what, hint="estimate one for this base: perf covariance CAPTIONS --out FILE")
    problem = f"there is not enough memory to train {name!r} on {base.device}"
    lower = "lower `batch` under [train] of its recipe, or take out `sizes`; the build goes on where it was"
    checkpoint = workspace / CHECKPOINT if workspace else None
    with enough_memory(problem, lower), as_begun(checkpoint, threads, name, reporter):
        inputs, images = training_inputs(
            make or method.trainable, method, base, covariance, sources, train_options, reporter, workspace
        )
        trained = train(
            inputs,
            title=f"{name}: training",
            checkpoint=checkpoint,
            timed=timed,
            then=ahead.whole,
            reporter=reporter,
        )
        title = f"{name}: choosing the best step"
        kept, scores = select(
            inputs,
            trained.concept,
            trained.snapshots,
            images,
            mask=method.mask(render_options),
            title=title,
            then=ahead.after_choosing,
            reporter=reporter,
        )
    if scores is None:
        reporter.warn(f"{name}: the base has no CLIP model to score steps with, so the last step is kept")
    own = Prompts(inputs.prompts.tokens[: len(train_options.templates)])
    built = method.built(kept.step, covariance.digest if covariance is not None else None)
    built = built.model_copy(update=dict(trained.concept.found(kept.tensors, own)))
    card = _card(base, method, sources, train_options, render_options, digest, built, scores)
    if card.energy is not None and card.energy < 1:
        reporter.note(f"{name}: the artifact keeps {card.energy:.1%} of what was learned (`rank`)")
    older = trained.concept.format_1_tensors(kept.tensors) if card.architecture == ARCHITECTURE else None
    return Artifact(
        card,
        trained.concept.tensors(kept.tensors),
        None if older is None else Artifact(in_format_1(card), older),
    )


def training_inputs(
    make: MakeTrainable,
    method: Method,
    base: Base,
    covariance: Covariance | None,
    sources: ConceptSources,
    options: TrainingOptions,
    reporter: Reporter,
    workspace: Path | None = None,
) -> tuple[TrainInputs, Tensor]:
    """The training's inputs, and the squared images (N, 3, H, W). workspace: where pictures that take long to
    draw are kept over an interruption."""
    if base.scorer is not None:
        base.scorer.parts()  # which chooses among the steps in the end: what is broken is told before them
    size, word = base.picture_size, sources.supercategory
    call = method.call(options, word)
    said = _said(base, method, sources, call, reporter)
    total = len(sources.images) + MASK_STEPS + 1
    title = f"{sources.name}: preparing {count(len(sources.images), 'image')}"
    with reporter.stage(title, total) as stage:
        loaded = []
        for index, source in enumerate(sources.images):
            name = str(source) if isinstance(source, Path) else f"image {index + 1} of {sources.name}"
            image = load_image(source, name)
            for note in (*image.notes, *notes_on_squaring(image, size)):
                reporter.note(f"{image.name} {note}")
            loaded.append(image)
            stage.advance(1, Path(image.name).name)
        for note in notes_on_all(loaded):
            reporter.note(f"{sources.name}: {note}")
        pixels = torch.stack([square(image.pixels, size) for image in loaded])
        stage.advance(0, f"where its {word} is")
        masks = find_masks(
            base, loaded, _mask_files(sources), word, options.mask, size, reporter, stage.advance
        )
        stage.advance(0, "encoding them")
        shown, weights = framed(pixels, masks, options.sizes, options.seed)
        sizes = torch.tensor([sizes_of(image.pixels, size) for image in loaded]).repeat(len(options.sizes), 1)
        latents = encode_latents(base, shown, weights, flip=options.flip, sizes=sizes)
        stage.advance(1)
    pair_prompts = _pair_prompts(sources, options, reporter)
    rows: tuple[int, ...] = ()
    if pair_prompts:
        together = PICTURES * len(pair_prompts)
        title, total = (
            f"{sources.name}: drawing {together} pictures of pairs",
            steps_to_draw(together, options.validation_steps),
        )
        with reporter.stage(title, total) as stage, repeatable(base.device):
            drawn = draw_pairs(
                base,
                pair_prompts,
                word,
                latents.mean.shape[1:],
                seed=options.seed,
                steps=options.validation_steps,
                guidance=options.validation_guidance,
                advance=stage.advance,
            )
            beside = encode_latents(base, *paste(pixels, masks, *drawn), flip=options.flip)
        latents = joined([latents, beside])
        rows = tuple(len(options.templates) + k % together // PICTURES for k in range(len(beside.mean)))
    first = len(options.templates) + len(pair_prompts)
    own = tuple(None if row is None else first + row for row in said.rows)
    prompts = Prompts.of(base, [*options.templates, *pair_prompts, *said.templates], word, call=call)
    priors = 0
    if isinstance(options, PriorOptions) and options.prior_pictures:
        shape, kept = latents.mean.shape[1:], workspace / PRIORS if workspace else None
        prompts, prior = _prior(base, prompts, sources, options, shape, kept, reporter)
        # Of hundreds of pictures a step takes a few, so all rest in the machine's memory.
        latents, priors = joined([latents.to(prior.mean.device), prior]), len(prior.mean)
    metric = covariance.metric() if covariance is not None else None
    inputs = TrainInputs(
        base,
        word,
        metric,
        prompts,
        latents,
        options,
        make,
        pairs=rows,
        call=call,
        priors=priors,
        captions=own,
        repeats=said.repeats,
    )
    return inputs, pixels


def _said(
    base: Base, method: Method, sources: ConceptSources, call: CallWords | None, reporter: Reporter
) -> CaptionPrompts:
    """What captions say of the images, where the method reads them; that it does not, where it does not."""
    captions, word = sources.captions, sources.supercategory
    if not method.reads_captions:
        if (note := not_read(image for image in sources.images if isinstance(image, Path))) is not None:
            reporter.note(f"{sources.name}: {note}")
        captions = ()
    if all(caption == NOTHING_SAID for caption in captions):
        return CaptionPrompts()
    found = caption_prompts(captions, sources.name, word, None if call is None else call.words)
    cut = cut_short(base, found, word, call)
    for note in (*found.notes, *([cut] if cut else [])):
        reporter.note(f"{sources.name}: {note}")
    return found


def _prior(
    base: Base,
    prompts: Prompts,
    sources: ConceptSources,
    options: PriorOptions,
    shape: Sequence[int],
    kept: Path | None,
    reporter: Reporter,
) -> tuple[Prompts, Latents]:
    """The prompts with the one of prior pictures behind them, and these, which the base draws, but for those
    that an interrupted build has kept."""
    prompt, wanted = prior_prompt(base, options.templates[0], sources.supercategory), options.prior_pictures
    title = f"{sources.name}: drawing {count(wanted, 'prior picture')}"
    problem = f"there is not enough memory to draw one prior picture of {sources.name!r} on {base.device}"
    fewer = "end other programs, compute in --dtype bf16, or say `prior_pictures = 0` under [train]"
    with (
        enough_memory(problem, fewer),
        reporter.stage(title, wanted * options.validation_steps) as stage,
        repeatable(base.device),
    ):
        latents = draw_prior(
            base,
            prompt,
            shape,
            wanted,
            seed=options.seed,
            steps=options.validation_steps,
            guidance=options.validation_guidance,
            flip=options.flip,
            kept=kept,
            advance=stage.advance,
            note=lambda text: reporter.note(f"{title}: {text}"),
        )
    return Prompts((*prompts.tokens, prompt), frozenset({len(prompts.tokens)})), latents


def _pair_prompts(sources: ConceptSources, options: TrainingOptions, reporter: Reporter) -> tuple[str, ...]:
    """The prompts of pairs whose other thing can be told from the concept: those that do not name its
    supercategory."""
    named = re.compile(rf"\b{re.escape(sources.supercategory)}\b", re.IGNORECASE)
    kept = tuple(text for text in options.pair_prompts if not named.search(text))
    for text in options.pair_prompts:
        if text not in kept:
            reporter.note(
                f"{sources.name}: the pair {text!r} names another {sources.supercategory}; left out"
            )
    return kept


def _mask_files(sources: ConceptSources) -> tuple[Path | bytes | None, ...]:
    if sources.masks:
        if len(sources.masks) != len(sources.images):
            counts = f"{len(sources.masks)} masks for {len(sources.images)} images"
            raise PerfError(f"Concept {sources.name!r} has {counts}", hint="give one for each image, or none")
        return sources.masks
    paths = [image for image in sources.images if isinstance(image, Path)]
    beside = dict(zip(paths, masks_beside(paths), strict=True))
    return tuple(beside[image] if isinstance(image, Path) else None for image in sources.images)


def _card(
    base: Base,
    method: Method,
    sources: ConceptSources,
    train_options: TrainingOptions,
    render_options: FileModel,
    digest: str,
    built: FileModel,
    scores: Scores | None,
) -> ConceptCard:
    """The card; its scores are empty where no CLIP model was there to choose the step."""
    call = method.call(train_options, sources.supercategory)
    return ConceptCard(
        requires_perf=FIRST_PERF,
        method=method.name,
        name=sources.name,
        version=sources.version,
        supercategory=sources.supercategory,
        word=None if call is None else call.words,
        architecture=base.description.architecture,
        family=base.description.family,
        recipe_digest=digest,
        base=base.description.repo,
        base_revision=base.description.revision,
        train=train_options,
        render=render_options,
        built=built,
        scores=scores.rounded() if scores else {},
        licence=sources.licence,
        authors=sources.authors,
        consent=sources.consent,
        description=sources.description,
    )
