"""What follows a training in a build, for the time left that is told: choosing its best step, and judging."""

from __future__ import annotations

from dataclasses import dataclass

from perfusion_registry.recipe.options import TrainingOptions

CHOOSING, JUDGING = 1.7, 2.9
"""What a step of drawing a picture costs, where a sample of a training step costs 1: few at once, as in
judging, are dearer. Storybook on one thread (`docs/log.md`); a second build goes by what the first took."""


@dataclass(frozen=True)
class AfterTraining:
    """What follows a training, each in its steps."""

    choosing: float = 0.0
    judging: float = 0.0

    @classmethod
    def counted(cls, options: TrainingOptions, judged: int, *, chosen: bool) -> AfterTraining:
        """By the pictures that will be drawn, before any build was measured. judged: those of the verdict.
        chosen: whether there is a CLIP model, by which the step is chosen."""
        snapshots = -(-options.steps // options.validate_every)
        compared = (1 + snapshots) * len(options.validation_prompts) if chosen else 0
        picture = options.validation_steps / options.batch
        return cls(CHOOSING * compared * picture, JUDGING * judged * picture)

    @property
    def whole(self) -> float:
        """Both."""
        return self.choosing + self.judging

    @property
    def after_choosing(self) -> float:
        """What follows the choice, as a share of it."""
        return self.judging / self.choosing if self.choosing else 0.0
