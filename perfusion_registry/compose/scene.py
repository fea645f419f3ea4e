"""Scenes by their names: those of the manifest, and `pack/scene` of a locked scene pack."""

from __future__ import annotations

from perfusion_registry.artifact import Store
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.files import parse_pack
from perfusion_registry.recipe import Pack, Scene
from perfusion_registry.resolve import ProjectFolder
from perfusion_registry.suggestions import did_you_mean


def find_scene(name: str, project: ProjectFolder, store: Store) -> Scene:
    """The scene of that name; raises PerfError, with the nearest names, where there is none.

    A pack of a registry is read from the store, as it is locked; a pack of the project from its recipe.
    """
    if name in project.manifest.scenes:
        return project.manifest.scenes[name]
    pack, slash, scene = name.partition("/")
    if slash and pack in pack_names(project):
        pack_scenes = read_pack(pack, project, store)
        if scene in pack_scenes.scenes:
            return pack_scenes.scenes[scene]
        raise _unknown(
            name, [f"{pack}/{known}" for known in pack_scenes.scenes], f"the pack `{pack}` has no scene"
        )
    known = [*project.manifest.scenes, *(f"{pack}/..." for pack in pack_names(project))]
    raise _unknown(name, known, "the project has no scene", str(project.manifest_path))


def pack_names(project: ProjectFolder) -> list[str]:
    """The scene packs of a project that are locked, sorted."""
    blocks = project.lockfile.concepts if project.lockfile else ()
    return sorted(block.name for block in blocks if block.kind == "pack")


def read_pack(name: str, project: ProjectFolder, store: Store) -> Pack:
    """A locked scene pack; raises PerfError where its bytes are not here."""
    block = project.lockfile.concept(name) if project.lockfile else None
    if block is not None and block.registry is not None and block.sha256 is not None:
        if not store.path(block.sha256).is_file():
            raise PerfError(
                f"the scene pack `{name}` {block.version} is not in this machine's store",
                where=str(project.lockfile_path),
                hint="run `perf sync`",
            )
        return parse_pack(store.get(block.sha256), f"{name} {block.version}")
    declared = project.declared(name)
    if not isinstance(declared, Pack):
        raise PerfError(
            f"`{name}` is locked as a scene pack, and its recipe is a concept's",
            where=str(project.recipe_path(name)),
            hint="run `perf lock`",
        )
    return declared


def _unknown(scene: str, known: list[str], what: str, where: str | None = None) -> PerfError:
    otherwise = f"its scenes are {', '.join(sorted(known))}" if known else "it has no scenes yet"
    return PerfError(f"{what} {scene!r}", where=where, hint=did_you_mean(scene, known, otherwise, form="{}"))
