"""Which concepts an OCI registry has: a set of tags, so that publishers cannot lose each other's entries."""

from __future__ import annotations

from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.registries.oci.client import OciClient
from perfusion_registry.registries.oci.manifest import EMPTY, entry_manifest
from perfusion_registry.registries.oci.token import DeniedError
from perfusion_registry.registries.registry import RegistryError

CATALOGUE = "perf.catalogue"
"""The repository below the namespace that has a tag for every concept; no concept's name has a dot."""


def add_name(client: OciClient, namespace: str, name: str) -> None:
    """Add a concept to the catalogue.

    The release is published already: what cannot be added now is added by the next publication.
    """
    repository = f"{namespace}/{CATALOGUE}"
    try:
        if client.manifest(repository, name) is None:
            client.upload(repository, EMPTY)
            client.put_manifest(repository, name, entry_manifest(name))
    except RegistryError:
        return


def concept_names(client: OciClient, namespace: str) -> list[str]:
    """The names of all concepts: the catalogue's tags, and what the registry itself lists."""
    prefix = f"{namespace}/"
    listed = client.repositories()
    try:
        added = client.tags(prefix + CATALOGUE)
    except DeniedError:
        if listed is None:
            raise
        added = ()
    repositories = (repository for repository in listed or () if repository.startswith(prefix))
    candidates = {*added, *(repository.removeprefix(prefix) for repository in repositories)}
    return sorted(filter(_is_name, candidates))


def _is_name(text: str) -> bool:
    """Whether a repository or tag, which may be anything, is a concept's name."""
    try:
        return canonical_name(text) == text
    except PerfError:
        return False
