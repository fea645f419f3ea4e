"""Transferring a built concept to a base of another family: an artifact in, an artifact out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfusion_registry.artifact import Artifact, ConceptCard
from perfusion_registry.artifact.card import CARD_SCHEMA, FIRST_PERF, TransferSource
from perfusion_registry.build.covariance import Covariance
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.table import find_method
from perfusion_registry.methods.transfer import Learned
from perfusion_registry.reporter import Reporter

if TYPE_CHECKING:
    from perfusion_registry.base import Base, BaseIdentity


def fits(card: ConceptCard, base: BaseIdentity, covariance: str | None) -> bool:
    """Whether a concept works on a base as it is. covariance: the digest of the base's C; where that is None,
    nothing is known that the concept's own would differ from."""
    return card.family == base.family and (covariance is None or card.covariance in (None, covariance))


def check_transferable(card: ConceptCard, base: BaseIdentity) -> None:
    """Raise PerfError for a concept of which its card tells that it cannot be transferred to a base."""
    hint = f"learn it there: `perf build {card.name}` in a project of that base"
    if card.call_hindrance is not None:
        raise PerfError(f"{card.name!r} cannot be transferred: {card.call_hindrance}")
    if not find_method(card.method).transferable:
        why = f"concepts of the method `{card.method}` are of one family"
        raise PerfError(f"{card.name!r} cannot be transferred: {why}", hint=hint)
    if card.architecture != base.architecture:
        raise PerfError(
            f"{card.name!r} was built for {card.base}, of the architecture {card.architecture}, and "
            f"{base.repo} is of {base.architecture}: their layers have other widths",
            hint=hint,
        )


def needs_base(artifact: Artifact) -> bool:
    """Whether a transfer of this artifact needs the base that it was learned on."""
    return find_method(artifact.card.method).transfer_needs_base(_learned(artifact))


def learned_on(artifact: Artifact, family: str, root: Path | None, reporter: Reporter) -> Base | None:
    """The base that a concept was learned on, loaded, where its transfer needs it; else None.

    family: of the base that it is transferred to. root: what a base's path is relative to. Raises PerfError
    where that base is not on this machine.
    """
    card = artifact.card
    if card.family == family or not needs_base(artifact):
        return None
    from perfusion_registry.base import describe_base, load_base

    kept = "is of format 1" if card.schema_version == 1 else "has trained keys"
    wanted = f"{card.base}@{card.base_revision}" if card.base_revision else card.base
    try:
        description = describe_base(wanted, root=root, allow_download=False)
    except PerfError as error:
        raise PerfError(
            f"{card.name!r} {kept}, so its transfer needs the base that it was learned on, {wanted}: "
            f"{error.what}",
            where=error.where,
            hint=f"bring that base here, or learn the concept anew: `perf build {card.name} --force`",
        ) from error
    if description.family != card.family:
        raise PerfError(
            f"{card.name!r} {kept}, so its transfer needs the base that it was learned on, and {wanted} here "
            f"is another (family {description.family[:12]}, not {card.family[:12]})",
            where=str(description.folder),
            hint=f"bring that base here, or learn the concept anew: `perf build {card.name} --force`",
        )
    with reporter.stage(f"Loading {description.repo}"):
        return load_base(description, device="cpu", dtype="float32")


def transfer(
    artifact: Artifact,
    sha256: str,
    base: Base,
    covariance: Covariance | None,
    *,
    digest: str | None,
    licence: str | None = None,
    before: Base | None = None,
) -> Artifact:
    """A concept as a base of another family has it; where it works there as it is, that very artifact.

    sha256: of the artifact. covariance: of the base; None for a method that needs none. digest: of all
    inputs, for the card. licence: of the base. before: the base that it was learned on, where `needs_base`.
    What was measured on the old base, scores and verdict, is left out. Raises PerfError where the concept
    does not fit the base, or no covariance is given and it needs one.
    """
    card, description = artifact.card, base.description
    method = find_method(card.method)
    if fits(card, description, covariance.digest if covariance else None):
        return artifact
    check_transferable(card, description)
    if not method.needs_covariance:
        covariance = None
    elif covariance is None:
        raise PerfError(f"{card.name!r} needs a covariance, of the base that it is transferred to")
    elif covariance.width != base.bank.width:
        raise PerfError(
            f"the covariance has width {covariance.width}, and {description.repo} encodes to "
            f"{base.bank.width} numbers",
            hint="estimate one for this base: perf covariance CAPTIONS --base BASE --out FILE",
        )
    if card.family == description.family:  # only the covariance is another
        before = base
    made = method.transferred(
        _learned(artifact), base, covariance.metric() if covariance is not None else None, before
    )
    built = card.built
    if not method.imports and card.imported is None:
        built = method.built(card.steps_kept or 0, covariance.digest if covariance is not None else None)
    fields = {
        "schema_version": CARD_SCHEMA,
        "requires_perf": card.requires_perf or FIRST_PERF,
        "architecture": description.architecture,
        "family": description.family,
        "base": description.repo,
        "base_revision": description.revision,
        "base_licence": licence,
        "recipe_digest": digest,
        "transferred": TransferSource(
            sha256=sha256,
            base=card.base,
            base_licence=card.base_licence,
            family=card.family,
            moved=made.moved,
        ),
        "built": built.model_copy(update=dict(made.found)),
        "scores": {},
        "verdict": None,
        "preview": None,
    }
    return Artifact(card.model_copy(update=fields), made.tensors)


def _learned(artifact: Artifact) -> Learned:
    card = artifact.card
    return Learned(card.name, card.supercategory or "", card.train, card.built, artifact.tensors)
