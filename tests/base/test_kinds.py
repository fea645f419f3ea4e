"""What is no base, or one on which nothing can be trained, is told from its files before any work."""

from __future__ import annotations

import copy
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from diffusers import (
    ControlNetModel,
    DDPMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    MotionAdapter,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    T2IAdapter,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from safetensors.numpy import save_file

from perfusion_registry.artifact import save_artifact
from perfusion_registry.base import Base, check_base, describe_base, require_trainable
from perfusion_registry.base.kinds import kind_of_tensors
from perfusion_registry.base.objective import Diffusion
from perfusion_registry.errors import PerfError
from tests.artifact.samples import artifact

PLAIN = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def controlnet(base: Base) -> ControlNetModel:
    return ControlNetModel.from_unet(base.pipe.unet, conditioning_embedding_out_channels=(8, 8))


def adapter(base: Base) -> T2IAdapter:
    return T2IAdapter(in_channels=3, channels=[32, 32, 64, 64], num_res_blocks=1, adapter_type="full_adapter")


def motion(base: Base) -> MotionAdapter:
    shape = {"block_out_channels": (8, 8), "motion_norm_num_groups": 2, "motion_num_attention_heads": 2}
    return MotionAdapter(**shape, motion_layers_per_block=1)


def unet(base: Base, **changes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_config({**base.pipe.unet.config, **changes})


def pipeline(base: Base, kind: Any, **others: Any) -> Any:
    """A pipeline of copies of the tiny base's parts, and of others; some pipelines change their parts, as the
    upscaler does its autoencoder's scaling factor."""
    takes = inspect.signature(kind.__init__).parameters
    parts = {**base.pipe.components, **PLAIN, **others}
    return kind(**{name: copy.deepcopy(part) for name, part in parts.items() if name in takes})


ALONE: dict[str, tuple[Callable[[Base], Any], str, str]] = {
    "ControlNet": (controlnet, "a ControlNet, not a base", "a ControlNet"),
    "T2I-Adapter": (adapter, "a T2I-Adapter, not a base", "a T2I-Adapter"),
    "motion module": (motion, "a motion module of AnimateDiff", "a motion module"),
    "UNet": (lambda base: base.pipe.unet, "a UNet alone", "a UNet alone"),
    "autoencoder": (lambda base: base.pipe.vae, "an autoencoder", "an autoencoder"),
    "text encoder": (lambda base: base.pipe.text_encoder, r"one model \(CLIPTextModel\)", "a text encoder"),
}
"""How to make one, and what its folder and its file are called."""

WITH: dict[str, tuple[Callable[[Base], Any], str]] = {
    "ControlNet": (
        lambda base: pipeline(base, StableDiffusionControlNetPipeline, controlnet=controlnet(base)),
        "it has a ControlNet, which perf would leave out",
    ),
    "T2I-Adapter": (
        lambda base: pipeline(base, StableDiffusionAdapterPipeline, adapter=adapter(base)),
        "it has a T2I-Adapter, which perf would leave out",
    ),
    "upscaler": (
        lambda base: pipeline(
            base,
            StableDiffusionUpscalePipeline,
            low_res_scheduler=DDPMScheduler(),
            unet=unet(base, in_channels=7, num_class_embeds=10),
        ),
        "it makes pictures larger",
    ),
    "pix2pix": (
        lambda base: pipeline(base, StableDiffusionInstructPix2PixPipeline, unet=unet(base, in_channels=8)),
        "takes 8 channels and a latent has 4",
    ),
    "classes": (
        lambda base: pipeline(base, StableDiffusionPipeline, unet=unet(base, num_class_embeds=10)),
        "also takes a class or a level of noise",
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_model_alone_is_called_what_it_is(tiny_base: Base, tmp_path: Path, name: str) -> None:
    make, told, file = ALONE[name]
    make(tiny_base).save_pretrained(tmp_path / "it")
    (weights,) = (tmp_path / "it").glob("*.safetensors")
    for place, what in ((tmp_path / "it", told), (weights, file)):
        with pytest.raises(PerfError, match=f"this is {what}") as caught:
            describe_base(str(place))
        assert caught.value.where == str(place)
        assert caught.value.hint


@pytest.mark.parametrize("name", WITH)
def test_a_pipeline_of_which_something_would_be_dropped_is_refused(
    tiny_base: Base, tmp_path: Path, name: str
) -> None:
    make, told = WITH[name]
    make(tiny_base).save_pretrained(tmp_path / "it")
    with pytest.raises(PerfError, match=told):
        describe_base(str(tmp_path / "it"))


def test_a_pipeline_of_the_same_parts_is_a_base(tiny_base: Base, tmp_path: Path) -> None:
    pipeline(tiny_base, StableDiffusionImg2ImgPipeline).save_pretrained(tmp_path / "it")
    assert describe_base(str(tmp_path / "it")).family == tiny_base.description.family


PUBLISHED = json.loads((Path(__file__).parent / "published_names.json").read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_is_known_by_the_names_that_others_write(tmp_path: Path, name: str) -> None:
    """Names from published key tables; each entry of the file says from where."""
    entry = PUBLISHED[name]
    folder = tmp_path / "it"
    folder.mkdir()
    save_file({key: np.zeros(1, np.float16) for key in entry["tensors"]}, folder / "it.safetensors")
    for place in (folder, folder / "it.safetensors"):
        with pytest.raises(PerfError, match=entry["told"]):
            describe_base(str(place))


def test_what_holds_no_model_at_all_is_told_too(tmp_path: Path) -> None:
    def told(path: Path) -> PerfError:
        with pytest.raises(PerfError) as caught:
            describe_base(str(path))
        return caught.value

    empty = tmp_path / "empty"
    empty.mkdir()
    assert "not a diffusers folder" in told(empty).what
    (empty / "adapter_config.json").write_text("{}")
    assert "a LoRA" in told(empty).what
    pickle = tmp_path / "model.ckpt"
    pickle.write_bytes(b"\x80\x02")
    assert "never opens" in told(pickle).what
    gguf = tmp_path / "unet.gguf"
    gguf.write_bytes(b"GGUF")
    assert "`unet` under [base]" in str(told(gguf).hint)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"\xff" * 20)
    assert "no whole safetensors file" in told(cut).what
    cache = tmp_path / "models--owner--name"
    (cache / "snapshots" / "0").mkdir(parents=True)
    (cache / "refs").mkdir()
    assert '"owner/name"' in str(told(cache).hint)
    bases = tmp_path / "bases"
    (bases / "one").mkdir(parents=True)
    (bases / "one" / "model_index.json").write_text("{}")
    assert str(told(bases).hint) == "name one of them: one"
    assert kind_of_tensors(["nothing.that", "is.known"]) is None


SCHEDULERS = {
    "EDM": (EDMEulerScheduler(), "EDMEulerScheduler, has no chain of noise levels"),
    "flow matching": (FlowMatchEulerDiscreteScheduler(), "has no chain of noise levels"),
    "flow sigmas": (
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
        "predicts 'flow'",
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_base_on_which_nothing_can_be_trained_is_told_from_its_files(
    tiny_base_folder: Path, tmp_path: Path, name: str
) -> None:
    scheduler, told = SCHEDULERS[name]
    folder = shutil.copytree(tiny_base_folder, tmp_path / "base")
    scheduler.save_pretrained(folder / "scheduler")
    described = describe_base(str(folder))
    with pytest.raises(PerfError, match=told) as caught:
        require_trainable(described)
    assert "same family" in str(caught.value.hint)
    LCMScheduler().save_pretrained(folder / "scheduler")
    require_trainable(describe_base(str(folder)))


def test_a_base_that_says_no_size_is_told_unless_its_card_does(
    tiny_base_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_base_folder, tmp_path / "base")
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "sample_size": None}))
    require_trainable(describe_base(str(folder)))
    (folder / "perf-base.toml").unlink()
    with pytest.raises(PerfError, match="what size it was made for"):
        require_trainable(describe_base(str(folder)))


def accepted(ask: Callable[[Any], object], what: object) -> bool:
    try:
        ask(what)
    except PerfError:
        return False
    return True


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_files_and_schedulers_agree_on_what_can_be_trained_on(tiny_base_folder: Path, tmp_path: Path) -> None:
    """Every scheduler of diffusers that can be made without arguments."""
    folder = shutil.copytree(tiny_base_folder, tmp_path / "base")
    told, really = {}, {}
    for name in dir(diffusers.schedulers):
        kind = getattr(diffusers.schedulers, name)
        if not (inspect.isclass(kind) and issubclass(kind, SchedulerMixin)) or kind is SchedulerMixin:
            continue
        try:
            scheduler = kind()
        except TypeError:
            continue
        scheduler.save_pretrained(folder / "scheduler")
        told[name] = accepted(require_trainable, describe_base(str(folder)))
        really[name] = accepted(Diffusion.of, scheduler)
    assert told == really
    assert sum(really.values()) > 20


def test_an_inpainting_base_is_told_where_it_can_be_used(tiny_base: Base, tmp_path: Path) -> None:
    inpainting = pipeline(tiny_base, StableDiffusionPipeline, unet=unet(tiny_base, in_channels=9))
    inpainting.save_pretrained(tmp_path / "it")
    described = describe_base(str(tmp_path / "it"))
    assert (described.draws, described.family) == (("inpaint",), tiny_base.description.family)
    with pytest.raises(PerfError, match="made for inpainting"):
        require_trainable(described)
    checked = check_base(str(tmp_path / "it"))
    assert (checked.here, "made for inpainting" in str(checked.untrainable)) == (True, True)


def test_a_concept_in_the_place_of_a_base_is_told_by_its_card(tmp_path: Path) -> None:
    path = tmp_path / "teddy.safetensors"
    path.write_bytes(save_artifact(artifact()))
    with pytest.raises(PerfError, match="this is a concept that perf built, not a base"):
        describe_base(str(path))
