"""The registry that a command goes to, by its name in the manifest or by its address."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from perfusion_registry.errors import PerfError
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe.name import canonical_name
from perfusion_registry.registries import Registry
from perfusion_registry.suggestions import did_you_mean

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:|[.~]?[/\\]|\.\.?(?:[/\\]|\Z)|[a-zA-Z]:[/\\]")


@dataclass(frozen=True)
class RegistryTarget:
    """A registry as it was named. name: as the manifest calls it. root: where a folder begins."""

    name: str
    url: str
    root: Path

    def open(self, workspace: Workspace) -> Registry:
        """The registry."""
        return workspace.registry(self.url, self.name, self.root)

    @property
    def identity(self) -> str:
        """What known keys are kept under."""
        from perfusion_registry.trust import registry_identity

        return registry_identity(self.url, self.root)


def is_address(text: str) -> bool:
    """Whether this is a URL or a path, and no name."""
    return _ADDRESS.match(text) is not None


def parse_release(text: str, after: str | None = None) -> tuple[str | None, str, str]:
    """`NAME==VERSION` or `REGISTRY/NAME==VERSION`: the registry, if one is said, the name and the version.

    after: the version where it was said apart, as in `teddy 1.0.0`.
    """
    from packaging.version import InvalidVersion, Version

    text = text if after is None else f"{text}=={after}"
    spelt, _, version = text.partition("==")
    registry, slash, name = spelt.strip().rpartition("/")
    try:
        if slash and (not registry or is_address(registry)):
            raise InvalidVersion(registry)
        return registry or None, canonical_name(name), str(Version(version))
    except InvalidVersion as error:
        raise PerfError(
            f"`{text}` does not name a release",
            hint=f"write `{name or 'NAME'}==VERSION`, and an address as --registry ADDRESS",
        ) from error


def find_target(workspace: Workspace, wanted: str | None) -> RegistryTarget:
    """The registry of a name in the manifest, or at an address, which needs no project.

    wanted: None for the one called `default`, or the only one.
    """
    if wanted is not None and is_address(wanted):
        return RegistryTarget(_called(workspace, wanted), wanted, Path.cwd())
    project = workspace.read()
    registries = project.manifest.registries
    if wanted is None:
        wanted = "default" if "default" in registries else next(iter(registries), None)
        if wanted is None or (len(registries) > 1 and wanted != "default"):
            named = ", ".join(f"`{name}`" for name in sorted(registries))
            raise PerfError(
                f"the project has several registries: {named}" if named else "the project has no registry",
                where=f"{project.manifest_path}, registries",
                hint="choose with --registry NAME"
                if named
                else 'add one: [registries] studio = "https://..." (or a folder)',
            )
    if wanted not in registries:
        raise PerfError(
            f"the project has no registry `{wanted}`",
            where=f"{project.manifest_path}, registries",
            hint=did_you_mean(wanted, registries, "give a name there, or an address (./folder, https://)"),
        )
    return RegistryTarget(wanted, registries[wanted], project.root)


def _called(workspace: Workspace, url: str) -> str:
    """What the project around calls the registry at an address, for its credentials; else `default`."""
    try:
        registries = workspace.read().manifest.registries
    except PerfError:
        return "default"
    return next((name for name, known in registries.items() if known == url), "default")
