"""The files that `[base]` of a project names: found on this machine, told by their headers, and hashed.

What is not what it should be is refused here, before any weights are read, with its place in the manifest.
Importing this needs no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfusion_registry.adapters.embeddings import embedding_shapes
from perfusion_registry.adapters.modules import Modules
from perfusion_registry.adapters.reading import look_into
from perfusion_registry.base.architectures.cross_attention import cross_attention_shapes
from perfusion_registry.base.checkpoint import CheckpointFiles, kind_if_quantised
from perfusion_registry.base.digest import file_digest
from perfusion_registry.base.files import BaseFiles
from perfusion_registry.base.gguf_shapes import gguf_shapes
from perfusion_registry.base.hub import model_folder
from perfusion_registry.base.kinds import LORA, UNKNOWN, Kind, kind_of_file, kind_of_folder
from perfusion_registry.base.options import BaseFile, FusedLora, SaidOfBase, SidePart, WordEmbedding
from perfusion_registry.base.prediction import marked
from perfusion_registry.base.reference import FILES, BaseReference
from perfusion_registry.base.weights import weight_files, weight_variants
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe.base_section import LoraEntry
from perfusion_registry.recipe.lockfile import Part
from perfusion_registry.safetensors_header import Header, HeaderError, read_header

_LATENTS = re.compile(r"(?:^|\.)decoder\.conv_in\.weight$")
_FIRST, _KEYS = "input_blocks.0.0.weight", ".attn2.to_k.weight"
_SAME_KIND = "take one that was made for this base's kind"


@dataclass(frozen=True)
class SideFinder:
    """Finds what `[base]` names. allow_download: whether a model of the Hub that is not here may be fetched;
    None asks the environment."""

    said: SaidOfBase
    allow_download: bool | None = None

    def model(self, part: Part, key: str, model_type: str, called: str) -> SidePart | None:
        """The folder of a model of transformers. model_type: that its config.json must name. called: in
        words that follow "this is no"."""
        named = getattr(self.said.section, key)
        if named is None:
            return None
        place = self.place(named, key, "model.safetensors")
        config = json_of(place / "config.json") if place.is_dir() else {}
        if config.get("model_type") != model_type:
            raise self.refused(
                key, place, called, f"name a folder with {called} of transformers, or one of the Hub"
            )
        weights = weight_files(place)
        if not weights:
            raise self.pickled(key, called, place)
        plain = [path for path in place.glob("*") if path.suffix in (".json", ".txt")]
        return self.part(part, named, place, [*weights, *plain])

    def autoencoder(self, own: Mapping[str, Any], kind: str) -> SidePart | None:
        """One in a folder or one file. own, kind: the configuration and the class of the base's own, whose
        latents the denoiser knows."""
        named, called = self.said.section.vae, f"an {kind}"
        if named is None:
            return None
        place = self.place(named, "vae", "diffusion_pytorch_model.safetensors")
        alone = "name a file or a folder with the autoencoder alone"
        if place.is_file():
            tensors = self.header("vae", place, called).tensors
            entries = [entry for name, entry in tensors.items() if _LATENTS.search(name)]
            if len(entries) != 1 or len(entries[0].shape) != 4:
                raise self.refused("vae", place, called, alone)
            self._check_latents({**own, "latent_channels": entries[0].shape[1]}, own)
            return self.part("vae", named, place, [place])
        config = json_of(place / "config.json")
        if config.get("_class_name") != kind:
            raise self.refused("vae", place, called, alone)
        variants = weight_variants(place)
        if not variants:
            raise self.pickled("vae", called, place)
        self._check_latents(config, own)
        return self.part("vae", named, place, [*weight_files(place, variants[0]), place / "config.json"])

    def _check_latents(self, config: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        for what, key, default in (
            ("channels of a latent", "latent_channels", 4),
            ("scale of a latent", "scaling_factor", 0.18215),
            ("widths of its blocks", "block_out_channels", ()),
        ):
            theirs, ours = config.get(key, default), own.get(key, default)
            if key == "block_out_channels":  # as many blocks as sides are halved
                theirs, ours = len(theirs), len(ours)
            if theirs != ours:
                raise PerfError(
                    f"this autoencoder has {theirs} for the {what}, and the base's has {ours}",
                    where=self.said.at("vae"),
                    hint=_SAME_KIND,
                )

    def unet(self, files: BaseFiles) -> SidePart:
        """A UNet in one file, as CompVis names its tensors. files: the base's own.

        Raises PerfError for one of other layers, and for a GGUF file where the library that reads it is not
        installed or a LoRA is to be added to it.
        """
        named, called = self.said.section.unet, "a UNet as ComfyUI has it"
        assert named is not None
        place = self._file(named, "unet", called)
        quantised = place.suffix == ".gguf"
        if quantised and self.said.section.lora:
            raise PerfError(
                "a LoRA cannot be added to the weights of a GGUF file",
                where=self.said.at("lora"),
                hint="import it as a concept, `perf import`, or take a UNet in fp16",
            )
        header = None
        if quantised:
            shapes = gguf_shapes(place, self.said.at("unet"))
        else:
            header = self.header("unet", place, called)
            entries = header.tensors
            weights = {name: e for name, e in entries.items() if name.endswith(("weight", "bias"))}
            if (kind := kind_if_quantised(entries, weights)) is not None:
                raise PerfError(f"`{place.name}` is {kind.what}", where=self.said.at("unet"), hint=kind.hint)
            shapes = {name: entry.shape for name, entry in entries.items()}
        first = [shape for name, shape in shapes.items() if name.endswith(_FIRST)]
        if len(first) != 1:
            hint = "name a file of a UNet, whose tensors are called `input_blocks...`"
            raise self.refused("unet", place, called, hint)
        keys = sorted(shape for name, shape in shapes.items() if name.endswith(_KEYS))
        own = sorted((keys, d) for _, keys, _, d in cross_attention_shapes(files.tensors("unet")))
        if keys != own or first[0][1] != files.configuration("unet").get("in_channels", 4):
            raise PerfError(
                "this UNet has other layers than the base's own",
                where=self.said.at("unet"),
                hint=_SAME_KIND,
            )
        self._check_prediction(files, shapes, {} if header is None else header.metadata)
        return self.part("unet", named, place, [place])

    def _check_prediction(
        self, files: BaseFiles, names: Collection[str], metadata: Mapping[str, str]
    ) -> None:
        """Raise PerfError where a UNet is marked to predict what the base's schedule does not ask of it, and
        the manifest does not say which of them is right."""
        prediction, zero = marked(names, metadata)
        section, own = self.said.section, files.scheduler
        wanted = []
        asks = own.get("prediction_type", "epsilon")
        if prediction == "v_prediction" and section.prediction is None and asks != prediction:
            wanted.append('prediction = "v_prediction"')
        if zero and section.zero_terminal_snr is None and not own.get("rescale_betas_zero_snr"):
            wanted.append("zero_terminal_snr = true")
        if wanted:
            says = " and ".join(wanted)
            in_file = isinstance(files, CheckpointFiles)
            raise PerfError(
                f"this UNet is marked with {says}, and the base's own is another",
                where=self.said.at("unet"),
                hint=f"write {says} under [base]"
                if in_file
                else "name a base in one file and write that under [base], or a folder whose "
                "scheduler_config.json says it",
            )

    def lora(self, number: int, entry: LoraEntry, modules: Modules) -> FusedLora:
        """A LoRA or one of its kin in one file. number: of the entry, from 0. modules: of the base."""
        key, called = f"lora[{number}].file", "a LoRA"
        place = self._file(entry.file, key, called)
        try:
            contents = look_into(place, modules)
        except PerfError as error:
            if kind_of_file(place) not in (LORA, UNKNOWN):
                raise self.refused(key, place, called, "name a LoRA's safetensors file") from error
            raise PerfError(error.what, where=self.said.at(key), hint=error.hint) from error
        if contents.words_in_it:
            alone = "a textual inversion, not a LoRA" if not contents.parts else "a LoRA with words in it"
            raise PerfError(
                f"`{place.name}` is {alone}",
                where=self.said.at(key),
                hint="name its words under [base.embeddings], each by a file of its own",
            )
        if contents.in_text and not entry.train:
            raise PerfError(
                "this LoRA changes the text encoder, so concepts cannot be learned without it",
                where=self.said.at(f"lora[{number}].train"),
                hint="take the line out, or take a LoRA of the denoiser alone",
            )
        part = self.part("adapter", entry.file, place, [place])
        return FusedLora(part, entry.strength, entry.train, contents.in_text)

    def embedding(self, word: str, named: str, widths: Sequence[int]) -> WordEmbedding:
        """A textual inversion in one file. widths: of the base's text encoders' token embeddings."""
        key, called = f"embeddings.{word}", "a textual-inversion embedding"
        place = self._file(named, key, called)
        tensors = self.header(key, place, called).tensors
        shapes = embedding_shapes({name: entry.shape for name, entry in tensors.items()})
        if shapes is None:
            raise self.refused(key, place, called, "name an embedding's safetensors file")
        if [width for _, width in shapes] != list(widths):
            theirs, ours = (" and ".join(map(str, each)) for each in ([width for _, width in shapes], widths))
            raise PerfError(
                f"this embedding has {theirs} numbers a token, and the base's text encoder {ours}",
                where=self.said.at(key),
                hint=_SAME_KIND,
            )
        (vectors,) = {count for count, _ in shapes}
        return WordEmbedding(self.part("embedding", named, place, [place]), word, vectors)

    def place(self, named: str, key: str, file: str) -> Path:
        """Where a thing is: a file, a folder, or a folder of the Hub's cache that has `file`."""
        reference = BaseReference.parse(named, where=self.said.at(key))
        if reference.kind == "hub":
            near = self.said.root / named
            if near.exists():
                raise PerfError(
                    f"{named!r} is both a folder here and a name of the Hub",
                    where=self.said.at(key),
                    hint=f'write "./{named}" for the folder',
                )
            try:
                return model_folder(reference, self.allow_download, file)
            except PerfError as error:
                raise PerfError(error.what, where=self.said.at(key), hint=error.hint) from error
        place = reference.place(self.said.root)
        if place is None or not place.exists():
            what = "file" if named.lower().endswith(FILES) else "folder"
            raise PerfError(
                f"the {what} does not exist: {place or named}",
                where=self.said.at(key),
                hint="paths begin at the project's folder",
            )
        return place

    def _file(self, named: str, key: str, called: str) -> Path:
        place = BaseReference(named, "path", named).place(self.said.root)
        assert place is not None
        if place.is_dir():
            raise self.refused(key, place, called, "name its safetensors file")
        if not place.is_file():
            raise PerfError(
                f"the file does not exist: {place}",
                where=self.said.at(key),
                hint="paths begin at the project's folder",
            )
        return place

    def pickled(self, key: str, called: str, place: Path) -> PerfError:
        """The refusal of a folder whose weights perf does not open."""
        return PerfError(
            f"{called} has no safetensors weights in {place}",
            where=self.said.at(key),
            hint="convert them to safetensors; perf never opens pickles",
        )

    def header(self, key: str, place: Path, called: str) -> Header:
        """The header of a file. Raises PerfError for one that is not safetensors."""
        try:
            if place.suffix.lower() == ".safetensors":
                return read_header(place)
        except (OSError, HeaderError):
            pass
        raise self.refused(key, place, called, "name a safetensors file")

    def refused(self, key: str, place: Path, called: str, hint: str) -> PerfError:
        """The refusal of what is something else. called: what was wanted."""
        kind: Kind = kind_of_file(place) if place.is_file() else kind_of_folder(place)
        what = kind.what.removesuffix(", not a base").removesuffix(", not a text-to-image pipeline")
        if (place / "model_index.json").is_file():
            what = "a whole base"
        return PerfError(f"`{place.name}` is {what}, and not {called}", where=self.said.at(key), hint=hint)

    @staticmethod
    def part(part: Part, named: str, place: Path, paths: Sequence[Path]) -> SidePart:
        """A thing that was found, its files hashed. named: as it is written."""

        def shown(path: Path) -> str:
            return named if place.is_file() else f"{named.rstrip('/')}/{path.relative_to(place).as_posix()}"

        files = (BaseFile(shown(path), file_digest(path), path.stat().st_size, part) for path in paths)
        return SidePart(named, place, tuple(sorted(files, key=lambda file: file.path)))


def json_of(path: Path) -> dict[str, Any]:
    """The object of a JSON file; empty where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
