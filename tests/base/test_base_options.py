"""`[base]` of a project: each thing is put into the base as the tools that people know put it there, is a
part of what tells the base from others, and is refused with its place where it does not fit."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from safetensors.torch import load_file, save_file

from perfusion_registry.base import Base, BaseDescription, SaidOfBase, describe_base, layouts, load_base
from perfusion_registry.base.scheduler_names import COMPATIBLE
from perfusion_registry.errors import PerfError
from perfusion_registry.recipe import BaseSection
from tests.one_file import autoencoder, save_one_file, tiny_layout
from tests.sdxl import WIDTHS, save_tiny_sdxl

WHERE = "perfusion.toml"


@pytest.fixture(autouse=True)
def own_numbers() -> Iterator[None]:
    """What is random here is the same in each run, and leaves the numbers of other tests as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def described(base: Path, root: Path, **said: Any) -> BaseDescription:
    section = BaseSection.model_validate(said)
    return describe_base(str(base), said=SaidOfBase(section, root, WHERE))


def loaded(base: Path, root: Path, **said: Any) -> Base:
    return load_base(described(base, root, **said), "cpu", "float32")


def refusal(base: Path, root: Path, **said: Any) -> PerfError:
    with pytest.raises(PerfError) as caught:
        described(base, root, **said)
    assert caught.value.hint
    return caught.value


def encoded(base: Base, text: str) -> torch.Tensor:
    return base.encode([base.tokenise([text])]).states


@pytest.fixture
def sdxl(tmp_path: Path) -> Path:
    return save_tiny_sdxl(tmp_path / "sdxl")


def test_what_says_nothing_changes_nothing(tiny_base_folder: Path, tmp_path: Path) -> None:
    plain, said = describe_base(str(tiny_base_folder)), described(tiny_base_folder, tmp_path)
    assert said == plain
    assert plain.training_digest(["a photo of a {}"]) == plain.digest == plain.plain_digest
    assert plain.for_training is plain
    defaults = described(tiny_base_folder, tmp_path, steps=7, scheduler="euler", width=32)
    assert (defaults.digest, defaults.family) == (plain.digest, plain.family)
    assert defaults.card.render == {**plain.card.render, "steps": 7, "scheduler": "euler", "width": 32}
    assert defaults.options.sentences == ["defaults: steps 7, scheduler euler, width 32"]


def test_clip_skip_is_what_diffusers_and_a1111_make_of_it(
    tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, base = loaded(tiny_base_folder, tmp_path), loaded(tiny_base_folder, tmp_path, clip_skip=2)
    # A1111 norms the state before the last layer, and so does diffusers where `clip_skip` of a call is 1.
    encoder, ids = plain.pipe.text_encoder, torch.tensor([plain.tokenise(["a teddy on a table"]).ids[0]])
    text = getattr(encoder, "text_model", encoder)
    theirs = text.final_layer_norm(encoder(ids, output_hidden_states=True).hidden_states[-2])
    assert torch.equal(encoded(base, "a teddy on a table"), theirs)
    stock, _ = base.pipe.encode_prompt("a teddy on a table", "cpu", 1, False)
    assert torch.equal(stock, theirs)
    assert base.description.family != plain.description.family
    assert base.description.digest != plain.description.digest
    assert base.description.text_weights != plain.description.text_weights
    assert base.description.text_digest != plain.description.text_digest
    base.pipe.save_pretrained(tmp_path / "fewer")
    assert describe_base(str(tmp_path / "fewer")).family == base.description.family
    layout = tiny_layout(tiny_base_folder, layouts.LAYOUTS[1])
    monkeypatch.setattr(layouts, "LAYOUTS", (layout,))
    file = save_one_file(tiny_base_folder, layout, tmp_path / "it.safetensors")
    one = loaded(file, tmp_path, clip_skip=2)
    assert one.description.family == base.description.family
    assert one.description.text_weights == base.description.text_weights
    assert torch.equal(encoded(one, "a teddy"), encoded(base, "a teddy"))
    half = load_base(described(tiny_base_folder, tmp_path, clip_skip=2), "cpu", "bfloat16")
    assert torch.equal(encoded(half, "a teddy"), encoded(base, "a teddy"))
    assert half.pipe.text_encoder.config.num_hidden_layers == 1
    assert half.pipe.text_encoder.dtype == torch.bfloat16
    assert described(tiny_base_folder, tmp_path, clip_skip=1).digest == plain.description.digest
    assert "none is left" in refusal(tiny_base_folder, tmp_path, clip_skip=3).what


def test_sdxl_is_always_read_before_its_last_layers(sdxl: Path, tmp_path: Path) -> None:
    assert described(sdxl, tmp_path, clip_skip=2).digest == describe_base(str(sdxl)).digest
    error = refusal(sdxl, tmp_path, clip_skip=1)
    assert (error.where, "always" in error.what) == ("perfusion.toml, base.clip_skip", True)


def other_vae(base: Path) -> AutoencoderKL:
    vae = AutoencoderKL.from_pretrained(base / "vae")
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.mul_(1.25)
    return vae


def test_another_autoencoder_is_read_from_a_folder_and_from_both_kinds_of_files(
    tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = other_vae(tiny_base_folder)
    vae.save_pretrained(tmp_path / "vae")
    tensors = load_file(tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    save_file(tensors, tmp_path / "diffusers.safetensors")
    compvis = {name: tensor.contiguous() for name, tensor in autoencoder(tensors).items()}
    save_file(compvis, tmp_path / "compvis.safetensors")
    save_file(
        {f"first_stage_model.{name}": t for name, t in compvis.items()}, tmp_path / "within.safetensors"
    )
    layout = tiny_layout(tiny_base_folder, layouts.LAYOUTS[1])
    monkeypatch.setattr(layouts, "LAYOUTS", (layout,))
    file = save_one_file(tiny_base_folder, layout, tmp_path / "it.safetensors")
    z = torch.randn(1, 4, 8, 8)
    wanted = vae.decode(z).sample
    plain = describe_base(str(tiny_base_folder))
    digests = set()
    for base, named in (
        (tiny_base_folder, "vae"),
        (tiny_base_folder, "./diffusers.safetensors"),
        (tiny_base_folder, "compvis.safetensors"),
        (file, "within.safetensors"),
        (file, "./vae"),
    ):
        named = f"./{named}" if named == "vae" else named
        made = loaded(base, tmp_path, vae=named)
        assert torch.equal(made.pipe.vae.decode(z).sample, wanted), named
        assert made.description.family == plain.family
        assert {part.part for part in made.description.files} == {None, "vae"}
        digests.add(made.description.digest)
    assert len(digests) == 5
    assert plain.digest not in digests
    (tmp_path / "copy").mkdir()
    shutil.copytree(tmp_path / "vae", tmp_path / "copy" / "vae")
    both = {described(tiny_base_folder, tmp_path, vae=named).digest for named in ("./vae", "./copy/vae/")}
    assert len(both) == 1  # its bytes tell it, and not its name


def kohya(path: str) -> str:
    return f"lora_unet_{path.replace('.', '_')}"


def save_lora(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def factors(weight: torch.Tensor, rank: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    if weight.ndim == 4:
        return torch.randn(rank, *weight.shape[1:]), torch.randn(weight.shape[0], rank, 1, 1)
    return torch.randn(rank, weight.shape[1]), torch.randn(weight.shape[0], rank)


TO_K = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
CONV = "down_blocks.0.resnets.0.conv1"
Q_PROJ = "encoder.layers.1.self_attn.q_proj"


def written(form: str, named: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The factors (down, up) of modules, by `unet.PATH` and `text_encoder.PATH`, as one of the tools writes
    them; alpha is 1."""
    tensors = {}
    for name, (down, up) in named.items():
        component, _, path = name.partition(".")
        if form == "kohya":
            flat = path.replace(".", "_")
            module = f"lora_unet_{flat}" if component == "unet" else f"lora_te_text_model_{flat}"
            tensors |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
            tensors[f"{module}.alpha"] = torch.tensor(1.0)
            continue
        module = f"{component}.{path}" if component == "unet" else f"{component}.text_model.{path}"
        ends = (
            ("lora_A.weight", "lora_B.weight") if form == "peft" else ("lora.down.weight", "lora.up.weight")
        )
        tensors |= {f"{module}.{end}": factor for end, factor in zip(ends, (down, up), strict=True)}
    return tensors


@pytest.mark.parametrize("form", ["kohya", "peft", "diffusers"])
def test_a_lora_is_added_to_the_weights_whoever_wrote_it(
    tiny_base_folder: Path, tmp_path: Path, form: str
) -> None:
    plain = loaded(tiny_base_folder, tmp_path)
    named = {
        f"unet.{TO_K}": factors(plain.pipe.unet.get_submodule(TO_K).weight),
        f"unet.{CONV}": factors(plain.pipe.unet.get_submodule(CONV).weight),
    }
    alone = dict(named)
    text = dict(plain.pipe.text_encoder.named_modules())
    text = {name.removeprefix("text_model."): module for name, module in text.items()}
    named[f"text_encoder.{Q_PROJ}"] = factors(text[Q_PROJ].weight)
    alpha = {} if form == "diffusers" else {"unet.lora_alpha": 1, "text_encoder.lora_alpha": 1}
    metadata = {"lora_adapter_metadata": json.dumps(alpha)} if form == "peft" else None
    save_lora(tmp_path / "both.safetensors", written(form, named), metadata)
    save_lora(tmp_path / "unet.safetensors", written(form, alone), metadata)
    scale = 0.5 * (1 if form == "diffusers" else 1 / 2)

    made = loaded(tiny_base_folder, tmp_path, lora=({"file": "both.safetensors", "strength": 0.5},))
    for name, (down, up) in named.items():
        component, _, path = name.partition(".")
        before, after = (
            {
                key.removeprefix("text_model."): part
                for key, part in getattr(one.pipe, component).named_modules()
            }[path]
            for one in (plain, made)
        )
        change = torch.einsum("orxy,rikl->oikl", up, down) if up.ndim == 4 else up @ down
        assert torch.allclose(after.weight, before.weight + scale * change, atol=1e-6), name
    w = plain.bank.W
    assert not torch.equal(made.bank.W, w)
    assert made.description.family != plain.description.family

    alone_said = {"file": "unet.safetensors", "strength": 0.5, "train": False}
    drawn = described(tiny_base_folder, tmp_path, lora=(alone_said,))
    assert drawn.family == plain.description.family
    assert drawn.digest != plain.description.digest == drawn.for_training.digest
    assert drawn.training_digest([]) == plain.description.digest
    learned = load_base(drawn.for_training, "cpu", "float32")
    assert torch.equal(learned.bank.W, w)
    trained = described(tiny_base_folder, tmp_path, lora=({**alone_said, "train": True},))
    assert trained.training_digest([]) == trained.digest == drawn.digest
    zero = described(tiny_base_folder, tmp_path, lora=({"file": "unet.safetensors", "strength": 0.0},))
    assert zero.digest == plain.description.digest
    error = refusal(tiny_base_folder, tmp_path, lora=({"file": "both.safetensors", "train": False},))
    assert (error.where, "changes the text encoder" in error.what) == (
        "perfusion.toml, base.lora[0].train",
        True,
    )


def test_words_of_several_vectors_are_read_as_diffusers_reads_them(
    tiny_base_folder: Path, tmp_path: Path
) -> None:
    save_file({"emb_params": torch.randn(3, 32)}, tmp_path / "style.safetensors")
    save_file({"<toy>": torch.randn(32)}, tmp_path / "toy.safetensors")
    said = {"embeddings": {"mystyle": "style.safetensors", "<toy>": "toy.safetensors"}}
    base = loaded(tiny_base_folder, tmp_path, **said)
    stock = StableDiffusionPipeline.from_pretrained(tiny_base_folder, safety_checker=None)
    for word, file in (("mystyle", "style"), ("<toy>", "toy")):
        (vectors,) = load_file(tmp_path / f"{file}.safetensors").values()
        stock.load_textual_inversion(vectors.reshape(-1, 32), token=word)
    prompt = "a teddy on mystyle, a <toy>"
    theirs, _ = stock.encode_prompt(prompt, "cpu", 1, False)
    assert torch.equal(encoded(base, prompt), theirs)
    assert torch.equal(encoded(base, prompt.upper()), theirs)
    plain = loaded(tiny_base_folder, tmp_path)
    apart = "a teddy in notmystyle"  # no word of the base, though its letters are in it
    assert torch.equal(encoded(base, apart), encoded(plain, apart))
    inputs = base.plain_inputs([prompt], [""])
    assert torch.equal(inputs["prompt_embeds"], theirs)
    empty, _ = plain.pipe.encode_prompt("", "cpu", 1, False)
    assert torch.equal(inputs["negative_prompt_embeds"], empty)
    assert base.description.family == plain.description.family
    assert base.description.digest != plain.description.digest
    assert base.description.training_digest(["a photo of a {}"]) == plain.description.digest
    assert base.description.training_digest(["a {} in MyStyle"]) != plain.description.digest
    folder = tmp_path / "with words"  # and where somebody has put them into a folder
    stock.save_pretrained(folder)
    assert torch.equal(encoded(load_base(describe_base(str(folder)), "cpu", "float32"), prompt), theirs)


def test_sdxl_has_a_vector_of_a_word_for_each_text_encoder(sdxl: Path, tmp_path: Path) -> None:
    both = {"clip_g": torch.randn(2, WIDTHS[1]), "clip_l": torch.randn(2, WIDTHS[0])}
    save_file(both, tmp_path / "style.safetensors")
    base = loaded(sdxl, tmp_path, embeddings={"mystyle": "style.safetensors"})
    for width, name in zip(WIDTHS, ("clip_l", "clip_g"), strict=True):
        (table,) = [table for table in base.embedding_tables if table.weight.shape[1] == width]
        assert torch.equal(table.weight[-2:], both[name])
    pieces = base.tokenise(["a teddy in mystyle"])
    again = base.encode([pieces])
    order = base.text_encoders[1](torch.tensor([pieces.ids[1]])).text_embeds
    assert torch.allclose(again.pooled, order, atol=1e-6)
    ends = pieces.ids[1].index(base.pipe.tokenizer_2.eos_token_id)
    hidden = base.text_encoders[1](torch.tensor([pieces.ids[1]])).last_hidden_state[0, ends]
    assert torch.allclose(base.text_encoders[1].text_projection(hidden), again.pooled[0], atol=1e-5)


def test_what_judges_and_masks_is_a_part_of_what_is_learned(tiny_base_folder: Path, tmp_path: Path) -> None:
    clip = shutil.copytree(tiny_base_folder / "clip", tmp_path / "clip")
    bare = shutil.copytree(tiny_base_folder, tmp_path / "bare", ignore=shutil.ignore_patterns("clip"))
    plain = describe_base(str(bare))
    assert plain.clip is None
    said = described(bare, tmp_path, scorer="./clip")
    assert (said.clip, said.digest, said.family) == (clip, plain.digest, plain.family)
    assert said.training_digest([]) != plain.digest
    assert load_base(said, "cpu", "float32").scorer is not None
    error = refusal(bare, tmp_path, segmenter="./clip")
    assert (error.where, "not a CLIPSeg model" in error.what) == ("perfusion.toml, base.segmenter", True)


def test_models_of_the_hub_are_found_in_its_cache(
    tiny_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, folder in (("clip", tiny_base_folder / "clip"), ("vae", tiny_base_folder / "vae")):
        cached = tmp_path / "hub" / f"models--owner--{name}"
        shutil.copytree(folder, cached / "snapshots" / ("a" * 40))
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("a" * 40)
    said = described(tiny_base_folder, tmp_path, scorer="owner/clip@main", vae="owner/vae")
    shutil.copytree(tiny_base_folder / "vae", tmp_path / "vae")
    by_path = described(tiny_base_folder, tmp_path, scorer=str(tiny_base_folder / "clip"), vae="./vae")
    assert said.digest == by_path.digest
    assert said.training_digest([]) == by_path.training_digest([])
    folders = {file.path.rpartition("/")[0] for file in said.files if file.part}
    assert folders == {"owner/clip@main", "owner/vae"}
    (tmp_path / "owner" / "vae").mkdir(parents=True)
    assert "both a folder here" in refusal(tiny_base_folder, tmp_path, vae="owner/vae").what


def touched(name: str, tensors: dict[str, list[int]]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        save_file({key: torch.zeros(shape) for key, shape in tensors.items()}, root / name)

    return make


def nothing(root: Path) -> None:
    pass


WRONG: dict[str, tuple[Callable[[Path], None], dict[str, Any], str, str]] = {
    "no such VAE": (nothing, {"vae": "it.safetensors"}, "vae", "the file does not exist"),
    "no such VAE folder": (nothing, {"vae": "./it"}, "vae", "the folder does not exist"),
    "no name": (nothing, {"vae": "it"}, "vae", "'it' does not name a base"),
    "not on this machine": (nothing, {"scorer": "nobody/nothing"}, "scorer", "is not on this machine"),
    "a pickled embedding": (
        lambda root: (root / "it.pt").write_bytes(b"\x80\x02") and None,
        {"embeddings": {"bad": "it.pt"}},
        "embeddings.bad",
        "`it.pt` is a pickle",
    ),
    "a LoRA for a VAE": (
        touched("it.safetensors", {"lora_unet_a.lora_down.weight": [1, 2]}),
        {"vae": "it.safetensors"},
        "vae",
        "`it.safetensors` is a LoRA, and not an AutoencoderKL",
    ),
    "a VAE of 16 channels": (
        touched("it.safetensors", {"decoder.conv_in.weight": [8, 16, 3, 3]}),
        {"vae": "it.safetensors"},
        "vae",
        "this autoencoder has 16 for the channels of a latent, and the base's has 4",
    ),
    "a VAE for a LoRA": (
        touched("it.safetensors", {"decoder.conv_in.weight": [8, 4, 3, 3]}),
        {"lora": ({"file": "it.safetensors"},)},
        "lora[0].file",
        "`it.safetensors` is an autoencoder, and not a LoRA",
    ),
    "a LoHa": (
        touched("it.safetensors", {"lora_unet_a.hada_w1_a": [1, 2]}),
        {"lora": ({"file": "it.safetensors"},)},
        "lora[0].file",
        "which the base does not have",
    ),
    "a LoRA of SDXL": (
        touched(
            "it.safetensors",
            {
                "lora_unet_x_attn2_to_k.lora_down.weight": [4, 2048],
                "lora_unet_x_attn2_to_k.lora_up.weight": [9, 4],
            },
        ),
        {"lora": ({"file": "it.safetensors"},)},
        "lora[0].file",
        "this was made for SDXL, and the base is one whose text is 32 wide",
    ),
    "an embedding of SDXL": (
        touched("it.safetensors", {"clip_l": [2, 768], "clip_g": [2, 1280]}),
        {"embeddings": {"bad": "it.safetensors"}},
        "embeddings.bad",
        "768 and 1280 numbers a token, and the base's text encoder 32",
    ),
    "a scheduler of another kind": (
        nothing,
        {"scheduler": "FlowMatchEulerDiscreteScheduler"},
        "scheduler",
        "PNDMScheduler, has no form as FlowMatchEulerDiscreteScheduler",
    ),
    "a prediction of a folder": (nothing, {"prediction": "epsilon"}, "prediction", "this base is a folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_with_its_place(
    tiny_base_folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERF_ALLOW_DOWNLOAD", raising=False)
    make, said, key, told = WRONG[name]
    make(tmp_path)
    error = refusal(tiny_base_folder, tmp_path, **said)
    assert told in error.what
    assert error.where == f"{WHERE}, base.{key}"


def test_a_word_that_is_a_token_already_is_refused(tiny_base_folder: Path, tmp_path: Path) -> None:
    save_file({"emb_params": torch.randn(1, 32)}, tmp_path / "it.safetensors")
    with pytest.raises(PerfError, match="has a token 'teddy' already") as caught:
        loaded(tiny_base_folder, tmp_path, embeddings={"teddy": "it.safetensors"})
    assert "base.embeddings.teddy" in str(caught.value.where)


def test_schedulers_are_those_that_diffusers_has(tiny_base: Base) -> None:
    assert set(COMPATIBLE) == {kind.name for kind in KarrasDiffusionSchedulers}
    for name in ("LCMScheduler", "TCDScheduler"):
        scheduler = copy.copy(tiny_base).scheduler(name)
        scheduler.set_timesteps(4)
        assert type(scheduler).__name__ == name
