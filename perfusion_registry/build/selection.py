"""Selection: which step of a training to keep, by CLIP similarity to the images and to the text (Section
4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_registry.base import Adaptation, Applied, Conditioning, Factors, Mask, marked
from perfusion_registry.build.sampling import draw
from perfusion_registry.build.state import Snapshot
from perfusion_registry.build.training import TrainInputs, repeatable
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.trainable import Trainable
from perfusion_registry.reporter import Reporter, Silent

if TYPE_CHECKING:
    from perfusion_registry.base import Base

BATCH = 16
"""Pictures drawn together."""


@dataclass(frozen=True)
class Scores:
    """How good a step is.

    image: mean cosine similarity to the concept's images. text: similarity to the prompts, 1 where it is
    that of the supercategory's own pictures. harmonic: their harmonic mean, which chooses the step. plain,
    own: the scale of `image`: what the supercategory's pictures reach, and these images among themselves;
    None where nobody asked, or there is one image.
    """

    image: float
    text: float
    plain: float | None = None
    own: float | None = None

    @property
    def harmonic(self) -> float:
        """Zero unless both scores are positive."""
        if min(self.image, self.text) <= 0:
            return 0.0
        return 2 * self.image * self.text / (self.image + self.text)

    def rounded(self) -> dict[str, float]:
        """The scores by name, to the four digits that a card keeps."""
        scores = {"image": self.image, "text": self.text, "harmonic": self.harmonic}
        scale = {"image_plain": self.plain, "image_self": self.own}
        return {name: round(value, 4) for name, value in (scores | scale).items() if value is not None}


def select(
    inputs: TrainInputs,
    concept: Trainable,
    snapshots: Sequence[Snapshot],
    images: Tensor,
    *,
    mask: Mask = "ramp",
    title: str = "choosing the best step",
    then: float = 0.0,
    reporter: Reporter | None = None,
) -> tuple[Snapshot, Scores | None]:
    """The snapshot whose pictures of the validation prompts have the greatest harmonic mean of similarities.

    concept: of which they are states. images: (N, 3, H, W) in 0..1, the concept's. Image similarity is
    the mean pairwise cosine between drawn pictures and these; text similarity is the cosine to the prompt
    without the concept's word, divided by what the supercategory's pictures of the same prompts and seeds
    reach (Section 5). mask: where the concept's residual is drawn. All else of every step is drawn as in
    training and with the same noise. then: what follows, as a share of it. Without a scorer it is the last
    snapshot and None.
    """
    base, options, word = inputs.base, inputs.options, inputs.word
    if base.scorer is None:
        return snapshots[-1], None
    prompts = Prompts.of(base, options.validation_prompts, word, call=inputs.call)
    plain = Prompts.of(base, options.validation_prompts, word, spelled=True)
    P, shape = len(prompts.tokens), inputs.latents.mean.shape[1:]
    noise = torch.randn(P, *shape, generator=torch.Generator().manual_seed(options.seed))
    states = [None, *snapshots]
    changed = bool(concept.changes(snapshots[0].tensors))
    # Only ramps leave alone the pictures of other states that are drawn with them.
    together = 1 if changed or mask != "ramp" else max(1, BATCH // P)
    starts = range(0, len(states), together)
    features = []
    total = len(starts) * options.validation_steps
    with (
        (reporter or Silent()).stage(title, total, then * total) as stage,
        torch.no_grad(),
        repeatable(base.device),
    ):
        for start in starts:
            group = states[start : start + together]
            branches = [
                _plain(base, plain) if state is None else concept.conditioned(state.tensors, prompts)
                for state in group
            ]
            wanted = Conditioning.joined([shown for shown, _ in branches])
            unwanted = Conditioning.joined(
                [base.without_negative(empty).repeated(P) for _, empty in branches]
            )
            residuals, focus = _residuals(inputs, concept, prompts, group)
            if residuals:
                wanted = wanted.with_states(marked(wanted.states, focus))
                unwanted = unwanted.with_states(marked(unwanted.states, torch.zeros_like(focus)))
            adaptation = _adaptation(concept, group) if changed else None
            with base.attached(residuals, masks=(mask,) * len(residuals), adaptation=adaptation):
                pictures = draw(
                    base,
                    wanted,
                    unwanted,
                    noise.repeat(len(group), 1, 1, 1),
                    steps=options.validation_steps,
                    guidance=options.validation_guidance,
                    advance=stage.advance,
                )
            features.append(base.scorer.image_features(pictures).cpu())
        own = base.scorer.image_features(images.to(base.device)).cpu()  # (N, f)
        texts = base.scorer.text_features([spoken(text) for text in options.validation_prompts]).cpu()
    drawn = torch.cat(features).reshape(len(states), P, -1)  # (1 + S, P, f)
    likeness = (drawn @ own.T).mean((1, 2))  # (1 + S,)
    fit = (drawn * texts).sum(-1).mean(-1)  # (1 + S,)
    fit = fit / fit[0].clamp_min(1e-3)
    plain_word, alone = float(likeness[0]), len(own) == 1
    itself = None if alone else float((own @ own.T).fill_diagonal_(0).sum() / (len(own) * (len(own) - 1)))
    scores = [
        Scores(image, text, plain_word, itself)
        for image, text in zip(likeness.tolist()[1:], fit.tolist()[1:], strict=True)
    ]
    best = max(range(len(scores)), key=lambda s: (scores[s].harmonic, -s))
    return snapshots[best], scores[best]


def spoken(template: str) -> str:
    """The prompt with the concept's word left out, as the text score reads it ("A is dressed like a
    wizard")."""
    return " ".join(template.replace("{}", " ").split())


def _residuals(
    inputs: TrainInputs, concept: Trainable, prompts: Prompts, group: Sequence[Snapshot | None]
) -> tuple[list[Factors], Tensor]:
    """The residuals of the states drawn together, and where in their P prompts each applies, (G P, n, J)."""
    P, n = len(prompts.tokens), len(prompts.tokens[0])
    device = inputs.base.device
    learned = [{} if state is None else concept.factors(state.tensors) for state in group]
    shown = [(g, factors) for g, factors in enumerate(learned) if factors]
    focus = torch.zeros(len(group), P, n, len(shown), device=device)
    residuals: list[Factors] = []
    for j, (g, factors) in enumerate(shown):
        residuals.append({path: (A.to(device), B.to(device)) for path, (A, B) in factors.items()})
        focus[g, :, :, j] = prompts.focus.to(device)
    return residuals, focus.flatten(0, 1)


def _adaptation(concept: Trainable, group: Sequence[Snapshot | None]) -> Adaptation | None:
    """What the one state that is drawn changes of single modules."""
    (state,) = group
    return None if state is None else Adaptation((Applied(concept.changes(state.tensors)),))


def _plain(base: Base, prompts: Prompts) -> tuple[Conditioning, Conditioning]:
    """P packed prompts of the supercategory, and the empty one."""
    both = base.encode(prompts.tokens), base.encode([base.tokenise([])])
    W = base.bank.W
    return both[0].with_states(both[0].states @ W.T), both[1].with_states(both[1].states @ W.T)
