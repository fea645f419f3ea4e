"""A base in one file: known by names and shapes of real models, and the very base of its folder."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from perfusion_registry.base import (
    Base,
    SaidOfBase,
    describe_base,
    layouts,
    load_base,
    load_tokenizer,
    require_trainable,
    wrap,
)
from perfusion_registry.base.checkpoint import CheckpointFiles
from perfusion_registry.base.checkpoint_loading import checkpoint_scheduler, clip_tokenizer
from perfusion_registry.base.digest import file_digest
from perfusion_registry.base.layouts import LAYOUTS, Layout
from perfusion_registry.base.prediction import Asked
from perfusion_registry.base.text_tensors import Part, text_tensors_digest
from perfusion_registry.base.weights import plain_name
from perfusion_registry.compose import compose, parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.loaded_base import rounded_away
from perfusion_registry.recipe import BaseSection
from perfusion_registry.render import RenderRequest, render
from perfusion_registry.safetensors_header import floats
from tests.one_file import one_file, save_one_file, tiny_layout
from tests.sdxl import save_tiny_sdxl

PUBLISHED = json.loads(gzip.decompress((Path(__file__).parent / "published_tensors.json.gz").read_bytes()))
MERGED, SD_1, SD_2, XL = LAYOUTS
UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT_1, TEXT_2 = "cond_stage_model.transformer.text_model.", "cond_stage_model.model."
XL_1, XL_2 = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
WHOLE_1 = {UNET: "UNET-v1-SD", VAE: "VAE-v1-SD", TEXT_1: "CLIP-v1-SD"}
WHOLE_2 = {UNET: "UNET-v2-SD", VAE: "VAE-v1-SD", TEXT_2: "CLIP-v2-SD"}
WHOLE_XL = {UNET: "UNET-XL-SD", VAE: "VAE-v1-SD", XL_1: "CLIP-v1-SD", XL_2: "CLIP-XL-SD"}
STATISTIC = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"


def published(
    path: Path,
    parts: Mapping[str, str],
    *,
    metadata: Mapping[str, str] | None = None,
    more: Mapping[str, list[int]] | None = None,
    without: str = "-",
    dtype: str = "F16",
    values: Mapping[str, float] | None = None,
) -> Path:
    """A file with the tensors of real models, at their true size and without their numbers: a hole in a file
    takes no room. parts: the published tables, by the prefix before their names. values: of alternating sign,
    of some tensors."""
    tensors = {
        prefix + name: shape
        for prefix, table in parts.items()
        for name, shape in PUBLISHED["components"][table].items()
    }
    tensors = {
        name: shape for name, shape in {**tensors, **(more or {})}.items() if not name.startswith(without)
    }
    header: dict[str, Any] = {"__metadata__": dict(metadata or {})}
    end, size = 0, {"F16": 2, "F8_E4M3": 1}[dtype]
    for name, shape in tensors.items():
        whole = name.endswith("position_ids")
        start, end = end, end + (8 if whole else size) * prod(shape)
        header[name] = {"dtype": "I64" if whole else dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
        for name, value in (values or {}).items():
            file.seek(8 + len(text) + header[name]["data_offsets"][0])
            kind = torch.float16 if dtype == "F16" else torch.float8_e4m3fn
            pair = torch.tensor([value, -value]).to(kind).view(torch.uint8).numpy()
            file.write(np.resize(pair, size * prod(tensors[name])).tobytes())
    return path


@pytest.fixture(autouse=True)
def holes_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes without numbers are known by their header and length, and not read in each test."""

    def digest(path: Path) -> str:
        if path.stat().st_size < 2**26:
            return file_digest(path)
        with path.open("rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little"))
        return hashlib.sha256(header + str(path.stat().st_size).encode()).hexdigest()

    def text_digest(file: BufferedReader, parts: Mapping[str, Part]) -> str:
        if os.fstat(file.fileno()).st_size < 2**26:
            return text_tensors_digest(file, parts)
        shapes = sorted((name, part.shape) for name, part in parts.items())
        return hashlib.sha256(repr(shapes).encode()).hexdigest()

    monkeypatch.setattr("perfusion_registry.base.description.file_digest", digest)
    monkeypatch.setattr("perfusion_registry.base.checkpoint.text_tensors_digest", text_digest)


WHOLE = {
    "SD 1": (WHOLE_1, SD_1, "stable-diffusion"),
    "SD 2": (WHOLE_2, SD_2, "stable-diffusion"),
    "SDXL": (WHOLE_XL, XL, "sdxl"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_what_real_models_hold_is_what_the_configurations_ask_for(tmp_path: Path, kind: str) -> None:
    """The published names and shapes, converted, against what diffusers and transformers make of the
    configurations that ship."""
    parts, layout, _ = WHOLE[kind]
    files = CheckpointFiles.open(published(tmp_path / "it.safetensors", parts), Asked())
    assert files.layout is layout
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(files.configuration("unet"))
        vae = AutoencoderKL.from_config(files.configuration("vae"))
        names = {name: torch.empty(entry.shape) for name, entry in files.header.tensors.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    converted = convert_ldm_unet_checkpoint(dict(names), unet.config)
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == shapes
    attention = {name: entry.shape for name, entry in files.tensors("unet").items()}
    assert attention == {name: shape for name, shape in shapes.items() if ".attn2." in name}
    converted = convert_ldm_vae_checkpoint(dict(names), vae.config)
    asked = {name: tuple(tensor.shape) for name, tensor in vae.state_dict().items()}
    assert {name: tuple(tensor.squeeze().shape) for name, tensor in converted.items()} == {
        name: tuple(n for n in shape if n != 1) for name, shape in asked.items()
    }
    kinds = {kind.__name__: kind for kind in (CLIPTextModel, CLIPTextModelWithProjection)}
    for encoder in layout.encoders:
        with torch.device("meta"):
            configuration = CLIPTextConfig(**files.configuration(encoder.component))
            model = kinds[files.classes[encoder.component]](configuration)
        assert {name: part.shape for name, part in files.text_parts(encoder.component).items()} == {
            plain_name(name): tuple(parameter.shape) for name, parameter in model.named_parameters()
        }


def test_text_encoders_of_old_merges_are_found_too(tmp_path: Path) -> None:
    plain = CheckpointFiles.open(published(tmp_path / "plain.safetensors", WHOLE_1), Asked())
    parts = {UNET: "UNET-v1-SD", VAE: "VAE-v1-SD", "cond_stage_model.transformer.": "CLIP-v1-SD"}
    files = CheckpointFiles.open(published(tmp_path / "it.safetensors", parts), Asked())
    assert files.layout is MERGED
    ours, theirs = (
        {name: part.shape for name, part in one.text_parts("text_encoder").items()} for one in (files, plain)
    )
    assert ours == theirs


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "pix2pix": ({"parts": {**WHOLE_1, UNET: "UNET-v1-Pix2Pix"}}, "takes 8 channels"),
    "SD 2 depth": ({"parts": {**WHOLE_2, UNET: "UNET-v2-Depth"}}, "takes 5 channels"),
    "SDXL refiner": (
        {
            "parts": {
                UNET: "UNET-XL-Refiner",
                VAE: "VAE-v1-SD",
                "conditioner.embedders.0.model.": "CLIP-XL-SD",
            }
        },
        "this is SDXL's refiner",
    ),
    "UNet alone": ({"parts": {UNET: "UNET-XL-SD"}}, "this is a UNet without its text encoders"),
    "without a VAE": ({"parts": WHOLE_XL, "without": VAE}, "this is a model without its autoencoder"),
    "another text encoder": (
        {"parts": {**WHOLE_1, TEXT_1: "CLIP-v2-SD"}, "without": TEXT_1 + "token"},
        "whose text encoders perf does not know",
    ),
    "a mixture": (
        {"parts": {**WHOLE_2, UNET: "UNET-v1-SD"}},
        "laid out like Stable Diffusion 2, but its UNet",
    ),
    "fewer layers": (
        {"parts": WHOLE_XL, "without": f"{UNET}output_blocks.0.1.transformer_blocks.9"},
        "laid out like SDXL, but its UNet has other layers",
    ),
    "more words": (
        {"parts": WHOLE_1, "more": {f"{TEXT_1}embeddings.token_embedding.weight": [49410, 768]}},
        "its text_encoder has 49410 words of 768",
    ),
    "Playground 2.5": ({"parts": WHOLE_XL, "more": {"edm_mean": [1, 4, 1, 1]}}, "EDM's noise schedule"),
    "unCLIP": (
        {"parts": WHOLE_2, "more": {f"{UNET}label_emb.0.0.weight": [1280, 2048]}},
        "called with a picture or a level of noise",
    ),
    "scaled fp8": (
        {"parts": WHOLE_XL, "dtype": "F8_E4M3", "more": {f"{UNET}out.2.scale_weight": [1]}},
        "scaled beside their numbers",
    ),
    "SD 3": (
        {"parts": {}, "more": {f"{UNET}joint_blocks.0.context_block.adaLN_modulation.1.bias": [8]}},
        "joint attention",
    ),
    "Lumina": (
        {"parts": {}, "more": {f"{UNET}cap_embedder.0.weight": [8]}},
        "joint attention",
    ),
    "something new": (
        {"parts": {}, "more": {f"{UNET}new.0.weight": [8]}},
        "of a kind that perf does not know",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    how, told = REFUSED[kind]
    path = published(tmp_path / "it.safetensors", **how)
    with pytest.raises(PerfError, match=told) as caught:
        describe_base(str(path))
    assert (caught.value.where, "\n" in caught.value.what) == (str(path), False)
    assert caught.value.hint


INPAINTING = {
    "SD 1": (WHOLE_1, "UNET-v1-SD", "UNET-v1-Inpainting"),
    "SD 2": (WHOLE_2, "UNET-v2-SD", "UNET-v2-Inpainting"),
    "SDXL": (WHOLE_XL, "UNET-XL-SD", "UNET-XL-Inpainting"),
}


@pytest.mark.parametrize("kind", INPAINTING)
def test_a_base_for_inpainting_draws_concepts_and_learns_none(tmp_path: Path, kind: str) -> None:
    whole, plain, inpainting = INPAINTING[kind]
    assert whole[UNET] == plain
    one, other = (
        describe_base(str(published(tmp_path / f"{unet}.safetensors", parts={**whole, UNET: unet})))
        for unet in (plain, inpainting)
    )
    assert (one.draws, other.draws) == (("text", "image", "inpaint"), ("inpaint",))
    assert one.family == other.family
    require_trainable(one)
    with pytest.raises(PerfError, match="made for inpainting") as caught:
        require_trainable(other)
    assert "--for BASE --image FILE --mask FILE" in str(caught.value.hint)


PREDICTS: dict[str, tuple[dict[str, Any], Asked, tuple[str, bool, str | None]]] = {
    "SDXL": ({"parts": WHOLE_XL}, Asked(), ("epsilon", False, None)),
    "NoobAI": (
        {"parts": WHOLE_XL, "more": {"v_pred": [0], "ztsnr": [0]}},
        Asked(),
        ("v_prediction", True, "`v_pred` in the file"),
    ),
    "metadata": (
        {"parts": WHOLE_XL, "metadata": {"modelspec.prediction_type": "v"}},
        Asked(),
        ("v_prediction", False, "`modelspec.prediction_type` in the file"),
    ),
    "metadata before markers": (
        {"parts": WHOLE_XL, "metadata": {"modelspec.predict_key": "epsilon"}, "more": {"v_pred": [0]}},
        Asked(),
        ("epsilon", False, "`modelspec.predict_key` in the file"),
    ),
    "what is asked before all": (
        {"parts": WHOLE_XL, "metadata": {"modelspec.predict_key": "epsilon"}, "more": {"ztsnr": [0]}},
        Asked("v_prediction", False),
        ("v_prediction", False, "perfusion.toml"),
    ),
    "SD 2.1": (
        {"parts": WHOLE_2, "values": {STATISTIC: 0.2}},
        Asked(),
        ("v_prediction", False, "a tensor of its UNet"),
    ),
    "SD 2.1 base": (
        {"parts": WHOLE_2, "values": {STATISTIC: 0.05}},
        Asked(),
        ("epsilon", False, "a tensor of its UNet"),
    ),
    "SD 2.1 in fp8": (
        {"parts": WHOLE_2, "dtype": "F8_E4M3", "values": {STATISTIC: 0.25}},
        Asked(),
        ("v_prediction", False, "a tensor of its UNet"),
    ),
    "SD 1": ({"parts": WHOLE_1, "values": {STATISTIC: 0.2}}, Asked(), ("epsilon", False, None)),
    "SD 2 with a tensor of another length": (
        {"parts": WHOLE_2, "more": {STATISTIC: [640]}, "values": {STATISTIC: 0.2}},
        Asked(),
        ("epsilon", False, None),
    ),
    "SD 2 with a tensor of another rank": (
        {"parts": WHOLE_2, "more": {STATISTIC: [320, 1]}, "values": {STATISTIC: 0.2}},
        Asked(),
        ("epsilon", False, None),
    ),
    "SD 2 with a tensor of no numbers": (
        {"parts": WHOLE_2, "values": {STATISTIC: float("nan")}},
        Asked(),
        ("epsilon", False, None),
    ),
}


@pytest.mark.parametrize("kind", PREDICTS)
def test_what_is_predicted_is_told_in_order(tmp_path: Path, kind: str) -> None:
    how, asked, told = PREDICTS[kind]
    files = CheckpointFiles.open(published(tmp_path / "it.safetensors", **how), asked)
    found = files.prediction
    assert (found.kind, found.zero_terminal_snr, found.told_by) == told
    assert ("is assumed" in found.sentence) is (found.told_by is None)
    assert files.scheduler["prediction_type"] == found.kind
    assert files.scheduler.get("rescale_betas_zero_snr", False) is found.zero_terminal_snr
    assert (files.scheduler.get("timestep_spacing") == "trailing") is found.zero_terminal_snr


def test_a_size_is_the_metadatas_or_that_of_the_kind(tmp_path: Path) -> None:
    def size(**how: Any) -> Any:
        files = CheckpointFiles.open(published(tmp_path / "it.safetensors", **how), Asked())
        return files.configuration("unet")["sample_size"]

    assert (size(parts=WHOLE_1), size(parts=WHOLE_XL)) == (64, 128)
    assert (size(parts=WHOLE_2), size(parts=WHOLE_2, values={STATISTIC: 0.2})) == (64, 96)
    assert size(parts=WHOLE_1, metadata={"modelspec.resolution": "768x512"}) == [64, 96]
    for nonsense in ("0x0", "1000x1001", "99999x99999", "8x8", "1024", "٥١٢x٥١٢", "-512x512"):
        assert size(parts=WHOLE_1, metadata={"modelspec.resolution": nonsense}) == 64


@pytest.mark.parametrize("kind", WHOLE)
def test_whichever_scheduler_draws_has_the_schedule_of_its_kind(tmp_path: Path, kind: str) -> None:
    """As published folders have it: latents are not clipped, and the last step ends at the first level."""
    files = CheckpointFiles.open(published(tmp_path / "it.safetensors", WHOLE[kind][0]), Asked())
    own = checkpoint_scheduler(files)
    for name in ("DDIMScheduler", "PNDMScheduler", "DDPMScheduler"):
        (other,) = [one for one in own.compatibles if one.__name__ == name] or [type(own)]
        config = other.from_config(own.config).config
        assert (config.get("clip_sample", False), config.steps_offset) == (False, 1)
        assert config.get("set_alpha_to_one", False) is False
        assert (config.beta_start, config.beta_end, config.beta_schedule) == (0.00085, 0.012, "scaled_linear")


def test_the_tokenizers_are_clips(tmp_path: Path) -> None:
    """Ids as CLIP's notebook prints them. Where "!" is the padding, it is that wherever it stands, as in the
    folders of SD 2 and SDXL."""
    for layout in LAYOUTS:
        for encoder in layout.encoders:
            tokenizer = clip_tokenizer(layout, encoder.component)
            assert len(tokenizer) == 49408
            sign = 0 if encoder.open_clip else 256
            assert tokenizer("Hello World!").input_ids == [49406, 3306, 1002, sign, 49407]
            assert tokenizer.model_max_length == 77
            padded = tokenizer("a photo of a cat", padding="max_length").input_ids
            assert padded[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
            assert set(padded[7:]) == {0 if encoder.open_clip else 49407}


def tiny_second(folder: Path, source: Path) -> Path:
    """The tiny base with the padding of OpenCLIP's tokenizer, as SD 2 has it."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.pad_token = "!"
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module", params=["SD 1", "SD 2", "SDXL"])
def tiny(
    request: pytest.FixtureRequest, shared: Callable[..., Path], tiny_base_folder: Path
) -> tuple[Path, Layout]:
    """A folder, and the layout that its base has in one file."""
    if request.param == "SDXL":
        folder = shared("tiny-sdxl", save_tiny_sdxl)
        return folder, tiny_layout(folder, XL)
    if request.param == "SD 2":
        folder = shared("tiny-sd-2", lambda folder: tiny_second(folder, tiny_base_folder))
        return folder, tiny_layout(folder, SD_2)
    return tiny_base_folder, tiny_layout(tiny_base_folder, SD_1)


@pytest.fixture
def known(tiny: tuple[Path, Layout], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny layout is one that perf opens."""
    monkeypatch.setattr(layouts, "LAYOUTS", (tiny[1],))


def loaded(path: Path, **how: Any) -> Base:
    return load_base(describe_base(str(path), **how), device="cpu", dtype="float32", compute_dtype="float32")


@pytest.mark.usefixtures("known")
def test_a_file_is_the_base_of_its_folder(tiny: tuple[Path, Layout], tmp_path: Path) -> None:
    folder, layout = tiny
    path = save_one_file(folder, layout, tmp_path / "a model.safetensors")
    file, own = loaded(path), loaded(folder)
    described = file.description
    merged = {name: tensor.contiguous().clone() for name, tensor in one_file(folder, layout).items()}
    for name in [name for name in merged if name.endswith("position_ids")]:
        merged[name] = merged[name].half()  # as tools that merge models leave them
    save_file(merged, tmp_path / "merged.safetensors")
    assert describe_base(str(tmp_path / "merged.safetensors")).family == described.family
    assert (described.family, described.architecture) == (
        own.description.family,
        own.description.architecture,
    )
    assert [part.path for part in described.files] == ["a model.safetensors"]
    require_trainable(described)
    assert wrap(file.pipe).description.family == described.family
    for mine, theirs in ((file.pipe.unet, own.pipe.unet), (file.pipe.vae, own.pipe.vae)):
        other = theirs.state_dict()
        assert all(torch.equal(tensor, other[name]) for name, tensor in mine.state_dict().items())
    prompts = ["a teddy in the snow", ""]
    ours, theirs = (base.encode([base.tokenise([text]) for text in prompts]) for base in (file, own))
    assert torch.equal(ours.states, theirs.states)
    if ours.pooled is not None:
        assert torch.equal(ours.pooled, theirs.pooled)
    pictures = []
    for base in (file, own):
        models = [part for part in base.pipe.components.values() if isinstance(part, torch.nn.Module)]
        for parameter in (parameter for model in models for parameter in model.parameters()):
            parameter.data = parameter.data.clone()  # kernels round by where numbers lie in memory
        pipe = base.pipeline(scheduler="DDIMScheduler")
        how = {"num_inference_steps": 2, "width": 64, "height": 64, "output_type": "np"}
        pictures.append(pipe("a teddy", generator=torch.Generator().manual_seed(0), **how).images)
    np.testing.assert_array_equal(*pictures)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("tiny", ["SDXL"], indirect=True)
def test_another_format_is_of_the_same_family_and_its_text_encoder_in_fp32(
    tiny: tuple[Path, Layout], tmp_path: Path
) -> None:
    folder, layout = tiny
    whole = describe_base(str(folder))
    path = save_one_file(folder, layout, tmp_path / "half.safetensors", dtype=torch.float16)
    described = describe_base(str(path))
    assert described.family == whole.family
    base = load_base(described, device="cpu", dtype="float16", compute_dtype="float16")
    encoders = getattr(base, "text_encoders", None) or (base.text_encoder,)
    assert {parameter.dtype for encoder in encoders for parameter in encoder.parameters()} == {torch.float32}
    assert base.pipe.unet.dtype == base.pipe.text_encoder.dtype == torch.float16
    tensors = one_file(folder, layout)
    name = layout.encoders[-1].prefix + (
        "ln_final.weight" if layout.encoders[-1].open_clip else "final_layer_norm.weight"
    )
    tensors[name] = tensors[name] + 1
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in tensors.items()},
        tmp_path / "other.safetensors",
    )
    assert describe_base(str(tmp_path / "other.safetensors")).family != whole.family


@pytest.mark.parametrize(("called", "dtype"), [("F8_E4M3", "float8_e4m3fn"), ("F8_E5M2", "float8_e5m2")])
def test_a_byte_of_fp8_is_the_number_that_torch_reads(called: str, dtype: str) -> None:
    every = torch.arange(256, dtype=torch.uint8)
    theirs = every.view(getattr(torch, dtype)).to(torch.float16).numpy()
    np.testing.assert_array_equal(floats(every.numpy().tobytes(), called), theirs)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("tiny", ["SDXL"], indirect=True)
def test_a_file_in_fp8_is_the_base_of_its_rounded_numbers(tiny: tuple[Path, Layout], tmp_path: Path) -> None:
    """Of a denoiser alone in fp8 the family is that of the folder; text encoders in fp8 are another's."""
    folder, layout = tiny
    tensors = {name: tensor.contiguous().clone() for name, tensor in one_file(folder, layout).items()}
    small = {
        name: tensor.to(torch.float8_e4m3fn) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    mixed = {name: small[name] if name.startswith(UNET) else tensor for name, tensor in tensors.items()}
    save_file(mixed, tmp_path / "mixed.safetensors")
    save_file(small, tmp_path / "all.safetensors")
    base, own = loaded(tmp_path / "mixed.safetensors"), loaded(folder)
    assert base.description.family == own.description.family
    told = rounded_away(describe_base(str(tmp_path / "mixed.safetensors")))
    assert told is not None
    assert told.startswith("its weights are in F8_E4M3")
    for name, tensor in own.pipe.unet.state_dict().items():
        assert torch.equal(base.pipe.unet.state_dict()[name], tensor.to(torch.float8_e4m3fn).float()), name
    attention = base.pipe.unet.get_submodule(base.bank.layers[0].path)
    assert torch.equal(base.bank.W[base.bank.layers[0].key_slice], attention.to_k.weight)
    other = loaded(tmp_path / "all.safetensors")
    assert other.description.family != own.description.family
    for mine, theirs in zip(other.text_models.values(), own.text_models.values(), strict=True):
        for one, same in zip(mine.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, same.to(torch.float8_e4m3fn).float())


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("tiny", ["SD 1"], indirect=True)
def test_a_zero_terminal_snr_reaches_the_schedule_and_the_digest(
    tiny: tuple[Path, Layout], tmp_path: Path
) -> None:
    folder, layout = tiny
    path = save_one_file(folder, layout, tmp_path / "it.safetensors")
    plain = describe_base(str(path))
    section = BaseSection(prediction="v_prediction", zero_terminal_snr=True)
    base = loaded(path, said=SaidOfBase(section, tmp_path, "perfusion.toml"))
    assert base.description.digest != plain.digest
    assert base.description.family == plain.family
    assert base.description.guidance_rescale == 0.7
    assert base.objective.prediction == "v_prediction"
    assert float(base.objective.alphas[-1]) < 1e-6
    assert base.scheduler().config.timestep_spacing == "trailing"
    assert base.native_size == (64, 64)
    wide = save_one_file(
        folder, layout, tmp_path / "wide.safetensors", metadata={"modelspec.resolution": "96x64"}
    )
    assert loaded(wide).picture_size == (64, 96)
    composition = compose(parse_prompt("a teddy"), {}, base)
    request = {"steps": 2, "guidance": 7.0, "width": 64, "height": 64, "scheduler": "ddim", "seeds": (3,)}
    ((picture),) = render(base, composition, RenderRequest(**request), {})
    stock = base.pipeline(scheduler="DDIMScheduler")
    how = {
        "num_inference_steps": 2,
        "guidance_scale": 7.0,
        "width": 64,
        "height": 64,
        "guidance_rescale": 0.7,
    }
    expected = stock("a teddy", generator=[torch.Generator().manual_seed(3)], **how).images[0]
    np.testing.assert_allclose(np.asarray(picture.image, int), np.asarray(expected, int), atol=1)
    with pytest.raises(PerfError, match="this base is a folder"):
        describe_base(str(folder), said=SaidOfBase(section, tmp_path, "perfusion.toml"))
    same = Path(shutil.copytree(folder, tmp_path / "folder"))
    scheduler = same / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(dict(base.pipe.scheduler.config)))
    own = loaded(same)
    assert own.description.guidance_rescale == wrap(base.pipe).description.guidance_rescale == 0
    ((again),) = render(own, compose(parse_prompt("a teddy"), {}, own), RenderRequest(**request), {})
    how["guidance_rescale"] = 0.0
    expected = stock("a teddy", generator=[torch.Generator().manual_seed(3)], **how).images[0]
    np.testing.assert_allclose(np.asarray(again.image, int), np.asarray(expected, int), atol=1)


NONSENSE = ("", "v", "sample", "1x1", "\0", "9" * 400)
KEYS = ("modelspec.prediction_type", "modelspec.resolution", "modelspec.predict_key")
TELLING = ("token_embedding", "input_blocks.0.0.weight", "in_proj", ".attn2.to_", "projection", "norm1.bias")
"""Within the names of tensors from whose format and shape something is told."""


def mutated(tensors: Mapping[str, torch.Tensor], rng: random.Random) -> bytes:
    """A safetensors file of zeros, whole by its header, in which a few tensors have another format or shape,
    and metadata is nonsense."""
    telling = [name for name in tensors if any(part in name for part in TELLING)]
    changed = rng.sample(telling if rng.random() < 0.7 else sorted(tensors), rng.choice((1, 3)))
    header: dict[str, Any] = {"__metadata__": {rng.choice(KEYS): rng.choice(NONSENSE)}}
    end = 0
    for name, tensor in tensors.items():
        dtype, shape = "I64" if name.endswith("position_ids") else "F16", list(tensor.shape)
        if name in changed:
            dtype = rng.choice(["F16", "F8_E4M3", "BF16", "I64", "F4", "BOOL"])
            shape = rng.choice([shape, [], [0], shape[1:], [*shape, 1], [0, *shape], [n + 1 for n in shape]])
        start, end = end, end + {"F16": 2, "BF16": 2, "I64": 8}.get(dtype, 1) * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


@pytest.mark.usefixtures("known")
def test_whatever_a_header_says_there_is_a_base_or_an_error(
    tiny: tuple[Path, Layout], tmp_path: Path
) -> None:
    tensors, path = one_file(*tiny), tmp_path / "it.safetensors"
    refused: list[str] = []
    for seed in range(60):
        path.write_bytes(mutated(tensors, random.Random(seed)))
        try:
            loaded(path)
        except PerfError as error:
            refused.append(error.what)
    assert len(refused) > 20
    assert not any("\n" in what for what in refused)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("tiny", ["SD 1"], indirect=True)
def test_a_file_is_told_to_be_renamed_where_libraries_would_not_know_it(
    tiny: tuple[Path, Layout], tmp_path: Path
) -> None:
    path = save_one_file(*tiny, tmp_path / "IT.SAFETENSORS")
    with pytest.raises(PerfError) as caught:
        describe_base(str(path))
    assert (caught.value.where, caught.value.hint) == (str(path), "rename it to IT.safetensors")
    (tmp_path / "OLD.CKPT").write_bytes(b"\x80\x02")
    with pytest.raises(PerfError, match="a pickle, which perf never opens"):
        describe_base(str(tmp_path / "OLD.CKPT"))


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("tiny", ["SD 1"], indirect=True)
def test_a_link_is_the_file_that_it_leads_to_by_its_own_name(
    tiny: tuple[Path, Layout], tmp_path: Path
) -> None:
    blob = save_one_file(*tiny, tmp_path / "blob.safetensors").rename(tmp_path / "0123456789abcdef")
    link = tmp_path / "it.safetensors"
    link.symlink_to(blob)  # as the Hub's cache has files
    base = loaded(link)
    assert base.description.folder == link
    assert base.description.family == describe_base(str(tiny[0])).family


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("tiny", ["SDXL"], indirect=True)
def test_a_file_that_lacks_weights_is_told(tiny: tuple[Path, Layout], tmp_path: Path) -> None:
    folder, layout = tiny
    whole, last = one_file(folder, layout), layout.encoders[-1]
    norm = "ln_final" if last.open_clip else "final_layer_norm"
    for missing, told in {
        f"{last.prefix}{norm}.bias": "1 tensors too few for a text_encoder",
        f"{UNET}out.2.bias": "cannot be loaded|weights are missing",
        f"{VAE}decoder.norm_out.bias": "cannot be loaded|weights are missing",
    }.items():
        kept = {name: tensor.contiguous().clone() for name, tensor in whole.items() if name != missing}
        save_file(kept, tmp_path / "it.safetensors")
        with pytest.raises(PerfError, match=told):
            loaded(tmp_path / "it.safetensors")


def test_a_path_is_a_path_wherever_it_is(tiny_base_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("it.safetensors", "models/it.safetensors", "./it.safetensors"):
        with pytest.raises(PerfError, match="the base's file does not exist") as caught:
            describe_base(name, root=tmp_path)
        assert caught.value.where == str(tmp_path / name)
    (tmp_path / "models" / "it.ckpt").write_bytes(b"\x80\x02")
    with pytest.raises(PerfError, match="a pickle, which perf never opens"):
        describe_base("models/it.ckpt", root=tmp_path)
    assert load_tokenizer(describe_base(str(tiny_base_folder))) is not None
