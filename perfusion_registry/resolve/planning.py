"""The plan of a build: which concepts are built already, which need building, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from perfusion_registry.artifact import (
    ConceptCard,
    Store,
    card_key,
    digest_of,
    read_card,
    training_key,
    transfer_key,
)
from perfusion_registry.artifact.card import with_chosen
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import FileDigests
from perfusion_registry.methods.table import find_method, resolve_render, resolve_train, with_given_masks
from perfusion_registry.recipe import LockedConcept, Lockfile, Recipe
from perfusion_registry.recipe.captions import NOTHING_SAID
from perfusion_registry.recipe.mask_files import reads_mask_files
from perfusion_registry.recipe.model import FileModel
from perfusion_registry.recipe.options import TrainingOptions
from perfusion_registry.resolve.base import BaseFacts, judges_differ
from perfusion_registry.resolve.covariance import CovarianceFile, covariance_differs, no_covariance
from perfusion_registry.resolve.images import SourceImage, find_images
from perfusion_registry.resolve.project import ProjectFolder

OPTIONS_CHANGED = "render options changed"


@dataclass(frozen=True)
class BuildTask:
    """One concept with all its inputs resolved.

    digest: the recipe digest; training: the digest of what its tensors depend on. image_digest and
    option_digest are parts of it that the lockfile records to explain a change. built: SHA-256 of the
    whole artifact in the store, or None. reusable: SHA-256 of an artifact with the right tensors and perhaps
    another card. reason: why a build is needed; "" when it is not. transferred: SHA-256 of the artifact of
    another base that it is transferred from; None where it is not. imported: SHA-256 of the file that it is
    made of, as the recipe has it; None where it is learned from the images.
    """

    name: str
    source: str
    recipe: Recipe
    images: tuple[SourceImage, ...]
    train: FileModel
    render: FileModel
    digest: str
    training: str
    image_digest: str
    option_digest: str
    built: str | None
    reusable: str | None
    reason: str
    transferred: str | None = None
    imported: str | None = None

    @property
    def trained(self) -> bool:
        """Whether a build trains it."""
        return self.transferred is None and self.imported is None

    @property
    def training_options(self) -> TrainingOptions:
        """Those of a concept that is learned."""
        assert isinstance(self.train, TrainingOptions)
        return self.train

    @property
    def recipe_version(self) -> str:
        """The version that the recipe declares."""
        return self.recipe.concept.version

    @property
    def left_to_build(self) -> str | None:
        """The field of `render` that the recipe leaves open and the build may choose; None where there is
        none."""
        field = find_method(self.recipe.concept.method).strength
        if field is None or field not in type(self.render).model_fields:
            return None
        return field if getattr(self.recipe.render, field, None) is None else None


@dataclass(frozen=True)
class Plan:
    """The tasks of the chosen concepts, sorted by name, for one base and one covariance, if there is one."""

    tasks: tuple[BuildTask, ...]
    base: BaseFacts
    covariance: CovarianceFile | None

    @property
    def needed(self) -> tuple[BuildTask, ...]:
        """The tasks that are not built."""
        return tuple(task for task in self.tasks if task.reason)


def plan(
    project: ProjectFolder,
    store: Store,
    base: BaseFacts,
    covariance: CovarianceFile | None,
    *,
    epoch: int,
    names: Sequence[str] | None = None,
    force: bool = False,
    supercategories: Mapping[str, str] | None = None,
    transfers: Mapping[str, str] | None = None,
    opened: Callable[[Path, Path | None], None] | None = None,
) -> Plan:
    """Resolve the concepts `names` (default: all with a recipe) and compare them with store and lockfile.

    epoch: the trainer's `TRAINER_EPOCH`. force: build even what is built. supercategories: by name, words
    that stand in for those of the recipes. transfers: by name, the SHA-256 of artifacts of another base that
    are transferred to this one, instead of learning the concept here; what the lockfile has so stays so while
    the recipe and the base's family are the same. opened: as in `recipe.pictures.find_pictures`. Raises
    PerfError for a recipe with mistakes, images that are not there, an unknown concept, one that is named and
    not built here, or one that needs a covariance where there is none.
    """
    chosen = project.local() if names is None else project.select(names) if names else []
    declared = {name: project.declared(name) for name in chosen}
    for name, word in (supercategories or {}).items():
        declared[name] = _renamed(project.recipe(name), word)
    tasks = tuple(
        _task(
            project, store, base, covariance, name, recipe, epoch, force, (transfers or {}).get(name), opened
        )
        for name, recipe in declared.items()
        if isinstance(recipe, Recipe)
    )
    return Plan(tasks, base, covariance)


def _renamed(recipe: Recipe, word: str) -> Recipe:
    """The recipe with another supercategory; raises PerfError for what cannot be one."""
    values = recipe.concept.model_dump() | {"supercategory": word}
    try:
        concept = type(recipe.concept).model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise PerfError(f"{word!r} cannot be a supercategory: {problem}") from error
    return recipe.model_copy(update={"concept": concept})


def _task(
    project: ProjectFolder,
    store: Store,
    base: BaseFacts,
    covariance: CovarianceFile | None,
    name: str,
    recipe: Recipe,
    epoch: int,
    force: bool,
    transferred: str | None,
    opened: Callable[[Path, Path | None], None] | None,
) -> BuildTask:
    path = project.recipe_path(name)
    train = resolve_train(recipe, base.card.train)
    render = resolve_render(recipe, base.card.render)
    method, mask = find_method(recipe.concept.method), "none"
    prompts: tuple[str, ...] = ()
    images = find_images(
        path.parent,
        recipe.concept.images,
        recipe.concept.masks,
        where=shown(path, project.root),
        need_masks=isinstance(train, TrainingOptions) and train.mask == "files",
        captions=method.reads_captions and method.source_file(recipe) is None,
        opened=opened,
        digest=FileDigests(store.root).sha256,
    )
    if isinstance(train, TrainingOptions):
        train = with_given_masks(train, recipe, [image.mask is not None for image in images])
        mask, prompts = train.mask, train.prompts
    file = method.source_file(recipe)
    pictures = [image.sha256 for image in images] if file is None else [file.sha256]
    masks = [image.mask_sha256 for image in images] if reads_mask_files(mask) else []
    if method.needs_covariance and covariance is None:
        raise no_covariance(project)
    needed = covariance.digest if method.needs_covariance and covariance is not None else None
    inputs = (recipe, pictures, masks, base.training_digest(prompts), needed, train)
    captions = [image.caption.key() for image in images]
    if all(image.caption == NOTHING_SAID for image in images):
        captions = []  # no key has what is not there
    image_digest = digest_of([pictures, masks, *([captions] if captions else [])])
    option_digest = digest_of([recipe.concept.supercategory, train.model_dump(mode="json")])
    locked = project.lockfile.concept(name) if project.lockfile else None
    if transferred is None and locked is not None and not force:
        same = (locked.images, locked.options, locked.version) == (
            image_digest,
            option_digest,
            recipe.concept.version,
        )
        transferred = locked.transferred if same and _of_family(project.lockfile, base) else None
    if transferred is None:
        training = training_key(*inputs, render, epoch=epoch, captions=captions)
    else:
        training = transfer_key(transferred, base.training_digest(prompts), needed)
    digest = card_key(training, recipe, render, base_licence=base.licence)
    before = find_method(recipe.concept.method).resolved_before(recipe, base.card.render)
    if before != render and locked is not None and not force:
        earlier = card_key(training, recipe, before, base_licence=base.licence)
        if locked.recipe_digest == earlier:  # built when its recipe meant these options, and still good
            render, digest = before, earlier
    built = None if force else _built(store, digest, locked)
    task = BuildTask(
        name=name,
        source=shown(path, project.root),
        recipe=recipe,
        images=images,
        train=train,
        render=render,
        digest=digest,
        training=training,
        image_digest=image_digest,
        option_digest=option_digest,
        built=built,
        reusable=None if force or built else store.lookup(training),
        reason="",
        transferred=transferred,
        imported=None if file is None else file.sha256,
    )
    if built and _has_options(task, read_card(store.path(built))):
        return task
    if built:  # the key does not tell a value that the recipe says from the same one left to the build
        return replace(task, built=None, reusable=built, reason=OPTIONS_CHANGED)
    reason = "forced" if force else _reason(task, locked, project.lockfile, base, covariance)
    return replace(task, reason=reason)


def _has_options(task: BuildTask, card: ConceptCard) -> bool:
    """Whether an artifact has the options that its card should have by now."""
    return card.render == with_chosen(card, task.render, task.left_to_build)


def _built(store: Store, digest: str, locked: LockedConcept | None) -> str | None:
    """The whole artifact of `digest` in the store. Where the lockfile names its bytes, only those count."""
    if locked and locked.recipe_digest == digest and locked.sha256:
        return locked.sha256 if store.has(locked.sha256) else None
    return store.lookup(digest)


def _of_family(lock: Lockfile | None, base: BaseFacts) -> bool:
    """Whether the lockfile's base is of the base's family."""
    return lock is not None and lock.base is not None and lock.base.family == base.family


def _reason(
    task: BuildTask,
    locked: LockedConcept | None,
    lock: Lockfile | None,
    base: BaseFacts,
    covariance: CovarianceFile | None,
) -> str:
    """Why the concept needs building, from what the lockfile recorded of its last inputs."""
    if task.transferred is not None and (locked is None or locked.transferred != task.transferred):
        return "transferred"
    if locked is None or lock is None:
        return "never built"
    if locked.recipe_digest == task.digest:
        return "its artifact is not in this store" if locked.sha256 else "never built"
    changes = {
        "base changed": lock.base is None or lock.base.digest != base.digest,
        "scorer or segmenter changed": lock.base is not None and judges_differ(lock.base, base),
        "covariance changed": find_method(task.recipe.concept.method).needs_covariance
        and covariance_differs(lock.covariance, covariance),
        f"method {locked.method} became {task.recipe.concept.method}": locked.method
        != task.recipe.concept.method,
        _other_source(task): locked.images != task.image_digest,
        "options changed": locked.options != task.option_digest,
        f"version {locked.version} became {task.recipe_version}": locked.version != task.recipe_version,
        OPTIONS_CHANGED: _other_options(task, locked),
    }
    reasons = [change for change, happened in changes.items() if happened]
    return ", ".join(reasons) or ("its card changed" if task.reusable else "the trainer or the card changed")


def _other_source(task: BuildTask) -> str:
    """What to say where a concept is made from something else than before."""
    if task.imported is not None:
        return "the file is another"
    reads = find_method(task.recipe.concept.method).reads_captions
    return "images or captions changed" if reads else "images changed"


def _other_options(task: BuildTask, locked: LockedConcept) -> bool:
    """Whether the recipe says other options than the lockfile, of those that no build may have chosen."""
    render = task.render.model_dump(mode="json")
    return any(render.get(key) != value for key, value in locked.render.items() if key != task.left_to_build)


def shown(path: Path, root: Path) -> str:
    """A path as the lockfile and messages show it: from the project's folder, with `/`."""
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return path.as_posix()
