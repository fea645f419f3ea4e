"""Which artifact a concept of the project is transferred from, when the project has another base now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.artifact import ConceptCard, Store, read_card
from perfusion_registry.artifact.disk_usage import files
from perfusion_registry.compose.concept import Concept
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.plan import ProjectPlan
from perfusion_registry.recipe import Recipe
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.resolve.planning import BuildTask

if TYPE_CHECKING:
    from perfusion_registry.base import BaseDescription


class NothingToTransferError(PerfError):
    """A concept was built on no other base on this machine, or is of this one already."""


def source_of(store: Store, planned: ProjectPlan, task: BuildTask, given: Concept | None) -> str:
    """The artifact that a concept of the project is transferred from to the project's base.

    That of a file, else the one that is locked, else the only one in the store. Raises NothingToTransferError
    where there is none, and PerfError where there are several, it cannot be transferred, or the pictures have
    changed since.
    """
    from perfusion_registry.build.transfer import check_transferable, fits

    sha256 = _found(store, planned.project, task, planned.base, given)
    card = read_card(store.path(sha256))
    covariance = planned.plan.covariance
    if fits(card, planned.base, covariance.matrix if covariance is not None else None):
        raise NothingToTransferError(
            f"`{task.name}` was learned on this base already; what changed is its recipe ({task.reason})",
            where=task.source,
            hint=f"run `perf build {task.name}`",
        )
    check_transferable(card, planned.base)
    return sha256


def _found(
    store: Store, project: ProjectFolder, task: BuildTask, base: BaseDescription, given: Concept | None
) -> str:
    """See `source_of`."""
    name, hint = task.name, f"`perf build {task.name}` learns it on {base.repo}"
    if given is not None:
        if not _is_of(task.recipe, given.artifact.card):
            card = given.artifact.card
            raise PerfError(
                f"the file has {card.name} {card.version}, a {card.supercategory} by {card.method}: "
                f"the recipe of `{name}` is of another",
                where=task.source,
                hint=hint,
            )
        return given.sha256
    locked = project.lockfile.concept(name) if project.lockfile else None
    sha256 = locked.sha256 if locked else None
    if sha256 is not None and store.has(sha256) and _is_of(task.recipe, read_card(store.path(sha256))):
        if locked is not None and locked.images != task.image_digest:
            raise PerfError(
                f"the pictures of `{name}` have changed since it was built: "
                "what was learned of the old ones is not transferred",
                where=task.source,
                hint=hint,
            )
        return sha256
    found = _in_store(store, task.recipe, base)
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise NothingToTransferError(
            f"`{name}` {task.recipe_version} was built on no other base on this machine: there is nothing to "
            "transfer",
            where=task.source,
            hint=f"{hint}; --with FILE transfers an artifact's file",
        )
    listed = "".join(f"\n  - {store.path(sha)}, of {card.base}" for sha, card in found.items())
    raise PerfError(
        f"`{name}` {task.recipe_version} was built several times, and any could be meant:{listed}",
        where=task.source,
        hint="choose one: --with FILE",
    )


def _in_store(store: Store, recipe: Recipe, base: BaseDescription) -> dict[str, ConceptCard]:
    """The artifacts in the store of a recipe's concept, learned on a base of another family, by SHA-256."""
    found = {}
    for entry in files(store.root / "artifacts"):
        try:
            card = read_card(entry.path)
        except PerfError:  # a scene pack, or what this perf cannot read
            continue
        if card.transferred is None and card.family != base.family and _is_of(recipe, card):
            found[entry.path.stem] = card
    return found


def _is_of(recipe: Recipe, card: ConceptCard) -> bool:
    """Whether an artifact is of a recipe's concept, whatever base it was learned on."""
    about = recipe.concept
    return (card.name, card.version, card.method, card.supercategory) == (
        about.name,
        about.version,
        about.method,
        about.supercategory,
    )
