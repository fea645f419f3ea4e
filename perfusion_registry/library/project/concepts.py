"""What a project declares: concepts of its own and of registries."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfusion_registry.library.arguments import several
from perfusion_registry.library.project.opened import OpenedProject

if TYPE_CHECKING:
    from perfusion_registry.operations.add import AddResult
    from perfusion_registry.operations.concepts import ListResult, RemoveResult
    from perfusion_registry.operations.import_ import ImportResult
    from perfusion_registry.operations.metadata import ProjectMetadata
    from perfusion_registry.operations.outdated import OutdatedResult
    from perfusion_registry.operations.suggest import SuggestResult
    from perfusion_registry.operations.tree import TreeResult


class ProjectConcepts(OpenedProject):
    """Declaring concepts, and asking what the project has of them."""

    def add(
        self,
        name: str,
        supercategory: str,
        images: str | Path | Collection[str | Path] = (),
        *,
        copy: bool = False,
        version: str = "1.0.0",
        bias: float | None = None,
        temperature: float | None = None,
        steps: int | None = None,
        seed: int | None = None,
        flip: bool | None = None,
        method: str = "perfusion",
        options: Mapping[str, Any] | None = None,
    ) -> AddResult:
        """Write a recipe for a concept of your own, and its entry in the manifest.

        supercategory: a plain word that the base knows. images: files or patterns from the working directory;
        none means the folder beside the recipe that is called like the concept. copy: copy them there first.
        bias, temperature: of its gate in prompts. method: how it is learned and drawn. options: any others of
        the method, by key, or by table and key where `[train]` and `[render]` have it (`train.bias`). Of all
        these what is None is left to the base's card.
        """
        from perfusion_registry.operations.add import AddOptions, add

        wished = AddOptions(
            name=name,
            supercategory=supercategory,
            images=several(images),
            copy=copy,
            version=version,
            bias=bias,
            temperature=temperature,
            steps=steps,
            seed=seed,
            flip=flip,
            method=method,
            options=options or {},
        )
        return self._run(lambda workspace: add(workspace, wished))

    def add_release(self, name: str, version: str | None = None, *, registry: str | None = None) -> AddResult:
        """Write a concept of a registry into the manifest.

        name: "teddy", or "studio/teddy" to name the registry too. version: a constraint, such as ">=1.2,<2";
        None for the newest that fits, up to the next major one. registry: its name in the manifest; or its
        address, which is written there under the name before the slash.
        """
        from perfusion_registry.operations.add_release import AddReleaseOptions, add_release

        options = AddReleaseOptions(name=name, version=version, registry=registry)
        return self._run(lambda workspace: add_release(workspace, options))

    def import_file(
        self,
        file: str | Path,
        name: str,
        supercategory: str | None = None,
        *,
        word: str | None = None,
        version: str = "1.0.0",
        strength: float | None = None,
    ) -> ImportResult:
        """Make a concept of a LoRA or a textual inversion that somebody has, and lock it; its recipe names
        the file by path and hash.

        file: a safetensors file, or peft's folder. supercategory: the plain word that it is a kind of; None
        for a style. word: what a call becomes; None for what the file says of itself, else the supercategory.
        strength: in prompts that say none. A textual inversion has neither.
        """
        from perfusion_registry.operations.import_ import ImportOptions, import_

        options = ImportOptions(
            file=Path(file),
            name=name,
            supercategory=supercategory,
            word=word,
            version=version,
            strength=strength,
        )
        return self._run(lambda workspace: import_(workspace, options))

    def remove(self, *names: str) -> RemoveResult:
        """Take concepts out of manifest and lockfile; their recipes stay."""
        from perfusion_registry.operations.concepts import remove

        return self._run(lambda workspace: remove(workspace, names))

    def concepts(self) -> ListResult:
        """The project's concepts, and what a build or a sync would do with each."""
        from perfusion_registry.operations.concepts import list_concepts

        return self._run(list_concepts)

    def outdated(self) -> OutdatedResult:
        """The locked concepts of which a registry has a newer version, or that are yanked."""
        from perfusion_registry.operations.outdated import outdated

        return self._run(outdated)

    def tree(self) -> TreeResult:
        """What is locked, and what each of it requires."""
        from perfusion_registry.operations.tree import tree

        return self._run(tree)

    def metadata(self) -> ProjectMetadata:
        """Everything that is declared and locked, as one document for other programs."""
        from perfusion_registry.operations.metadata import metadata

        return self._run(metadata)

    def suggest(
        self,
        images: str | Path | Collection[str | Path],
        *,
        base: str | None = None,
        words: str | Path | None = None,
        any_length: bool = False,
        limit: int = 10,
        device: str = "auto",
    ) -> SuggestResult:
        """Rank supercategories by how well they describe images; the judge is the base's CLIP model.

        base: None for the project's. words: a file of words to try, one a line; None for the base's own.
        any_length: also words of several tokens.
        """
        from perfusion_registry.operations.suggest import SuggestOptions, suggest

        options = SuggestOptions(
            images=several(images),
            base=base,
            words=Path(words) if words else None,
            any_length=any_length,
            limit=limit,
            device=device,
        )
        return self._run(lambda workspace: suggest(workspace, options))
