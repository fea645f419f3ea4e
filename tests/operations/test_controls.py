"""`[base.controls]` of a manifest: locked by its bytes, told, a part of the base's digest and of nothing that
is learned; and what does not fit is refused in a sentence, before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, SparseControlNetModel
from safetensors.torch import load_file, save_file

from perfusion_registry.base import Base, describe_base
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.doctor import doctor
from perfusion_registry.operations.lock import LockOptions, check_fresh, lock
from perfusion_registry.operations.plan import load_plan
from perfusion_registry.operations.verify import verify
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.recipe import read_lockfile
from perfusion_registry.resolve import ProjectFolder
from tests.base.test_base_options import described, refusal
from tests.controls import (
    compvis,
    random_adapter,
    random_controlnet,
    random_union,
    save_controlnet,
    save_tensors,
)
from tests.operations.test_base_table import manifest
from tests.sdxl import save_tiny_sdxl, xl_unet


@pytest.fixture
def said(project: Path, loaded_tiny_base: Base) -> Path:
    """The project, and two controls in it."""
    save_controlnet(loaded_tiny_base.pipe.unet, project / "depth")
    save_tensors(compvis(random_controlnet(loaded_tiny_base.pipe.unet, 1)), project / "canny.safetensors")
    return project


def test_they_are_locked_by_hash_told_and_come_back(said: Path) -> None:
    with Workspace.open(said) as workspace:
        lock(workspace, LockOptions())
        (before,) = load_plan(workspace).plan.tasks
        plain = read_lockfile(said / "perfusion.lock").base
    manifest(said, '\n[base.controls]\ncanny = "canny.safetensors"\ndepth = "./depth"\n')
    with Workspace.open(said) as workspace:
        assert check_fresh(workspace)[0][:1] == [
            "[base] in perfusion.toml was edited since the base was locked"
        ]
        lock(workspace, LockOptions())
        told = [one.told for one in doctor(workspace).findings if one.what == "[base]"]
        (after,) = load_plan(workspace).plan.tasks
        described = workspace.base(workspace.read())
    assert [line.partition(",")[0] for line in told] == ["controls: `canny`", "controls: `depth`"]
    assert "a ControlNet, canny.safetensors, " in told[0]
    assert after.training == before.training  # nothing is learned with them
    assert described.for_training.digest == described.without_controls.digest == described.plain_digest
    base = read_lockfile(said / "perfusion.lock").base
    assert plain is not None
    assert base is not None
    assert (base.family, base.digest == plain.digest) == (plain.family, False)
    assert [file.path for file in base.files if file.part == "control"] == [
        "./depth/config.json",
        "./depth/diffusion_pytorch_model.safetensors",
        "canny.safetensors",
    ]
    text = (said / "perfusion.lock").read_text()
    assert "revision = 2\n" in text
    assert 'options.controls = { canny = "canny.safetensors", depth = "./depth" }' in text
    with Workspace.open(said) as workspace:
        assert check_fresh(workspace)[0] == []
        alone = ProjectFolder.of_lockfile(said, read_lockfile(said / "perfusion.lock"))
        assert workspace.base(alone).digest == base.digest
    whole = (said / "canny.safetensors").read_bytes()
    (said / "canny.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with Workspace.open(said) as workspace:
        findings = {one.what: one for one in doctor(workspace).findings}
        assert "canny.safetensors" in str(verify(workspace).checked[0].wrong)
    assert "its files are not those locked: canny.safetensors" in findings["base"].told


def test_a_control_of_another_base_is_refused_with_both_names(
    said: Path, loaded_tiny_base: Base, tmp_path: Path
) -> None:
    xl = save_tiny_sdxl(tmp_path / "illustrious")
    base = Path(loaded_tiny_base.description.repo)
    error = refusal(xl, said, controls={"canny": "canny.safetensors"})
    assert error.where == "perfusion.toml, base.controls.canny"
    told = "the control canny.safetensors is a ControlNet for text of 32 numbers a token, and the base"
    assert error.what == f"{told} {xl} reads 80 numbers a token"
    save_controlnet(xl_unet(), said / "big")
    error = refusal(base, said, controls={"canny": "./big"})
    assert error.what.startswith(
        "the control big is a ControlNet for text of 80 numbers a token, and the base "
    )
    config = json.loads((said / "big" / "config.json").read_text())
    (said / "big" / "config.json").write_text(json.dumps({**config, "cross_attention_dim": 768}))
    real = refusal(xl, said, controls={"canny": "./big"}).what
    assert "text of 768 numbers a token (Stable Diffusion 1), and the base" in real
    random_adapter(xl_unet()).save_pretrained(said / "xl-adapter")
    random_adapter(loaded_tiny_base.pipe.unet).save_pretrained(said / "sd-adapter")
    assert (
        "is a T2I-Adapter for SDXL, and the base" in refusal(base, said, controls={"a": "./xl-adapter"}).what
    )
    error = refusal(xl, said, controls={"a": "./sd-adapter"})
    assert "is a T2I-Adapter for Stable Diffusion 1 or 2, and the base" in error.what
    random_union(xl_unet()).save_pretrained(said / "union")
    error = refusal(base, said, controls={"canny": "./union"})
    assert error.what == f"the control union is a ControlNet-Union, which is for SDXL, and {base} is not"


def broken(path: Path, **changed: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **changed}))


def changed_file(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(path)), path)


REFUSED: dict[str, tuple[Callable[[Path, Base], object], str, str]] = {
    "a base": (lambda root, base: None, "BASE", "a whole base, and not a control"),
    "nothing": (lambda root, base: None, "nowhere.safetensors", "does not exist"),
    "an autoencoder": (
        lambda root, base: base.pipe.vae.save_pretrained(root / "vae"),
        "./vae",
        "is an autoencoder, and not a control",
    ),
    "a LoRA": (
        lambda root, base: save_file({"a.lora_A.weight": torch.ones(2, 2)}, root / "it.safetensors"),
        "it.safetensors",
        "is a LoRA, and not a control",
    ),
    "LLLite": (
        lambda root, base: save_file({"lllite_unet_down.weight": torch.ones(2, 2)}, root / "it.safetensors"),
        "it.safetensors",
        "is a control of another kind or layout than those of a ControlNet, a ControlNet-Union, a T2I-",
    ),
    "for video": (
        lambda root, base: SparseControlNetModel(
            block_out_channels=(32, 32), down_block_types=("DownBlockMotion",) * 2
        ).save_pretrained(root / "sparse"),
        "./sparse",
        "sparse is a SparseControlNetModel, and of diffusers' controls perf draws with a ControlNet",
    ),
    "pickles alone": (
        lambda root, base: (
            save_controlnet(base.pipe.unet, root / "net") / "diffusion_pytorch_model.safetensors"
        ).rename(root / "net" / "diffusion_pytorch_model.bin"),
        "./net",
        "a ControlNet has no safetensors weights",
    ),
    "a configuration of nothing": (
        lambda root, base: broken(save_controlnet(base.pipe.unet, root / "net"), block_out_channels=None),
        "./net",
        "does not say how large it is",
    ),
    "two channels": (
        lambda root, base: broken(save_controlnet(base.pipe.unet, root / "net"), conditioning_channels=2),
        "./net",
        "is controlled by pictures of 2 channels",
    ),
    "other latents": (
        lambda root, base: broken(save_controlnet(base.pipe.unet, root / "net"), in_channels=16),
        "./net",
        "latents of 16 channels, and those of the base",
    ),
    "other widths": (
        lambda root, base: broken(
            save_controlnet(base.pipe.unet, root / "net"), block_out_channels=[32, 32, 64, 96]
        ),
        "./net",
        "another UNet than that of the base",
    ),
    "fewer layers in a file": (
        lambda root, base: changed_file(
            save_tensors(random_controlnet(base.pipe.unet).state_dict(), root / "it.safetensors"),
            lambda tensors: {name: one for name, one in tensors.items() if "down_blocks.0.att" not in name},
        ),
        "it.safetensors",
        "1 cross-attention layer, and the base",
    ),
    "weights of integers": (
        lambda root, base: changed_file(
            save_tensors(random_controlnet(base.pipe.unet).state_dict(), root / "it.safetensors"),
            lambda tensors: {name: one.to(torch.float8_e4m3fn) for name, one in tensors.items()},
        ),
        "it.safetensors",
        "are in F8_E4M3",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_refused_by_lock_and_doctor(
    project: Path, loaded_tiny_base: Base, kind: str
) -> None:
    make, named, told = REFUSED[kind]
    make(project, loaded_tiny_base)
    named = loaded_tiny_base.description.repo if named == "BASE" else named
    manifest(project, f'\n[base.controls]\ncanny = "{named}"\n')
    with Workspace.open(project) as workspace:
        with pytest.raises(PerfError) as caught:
            lock(workspace, LockOptions())
        (found,) = [one for one in doctor(workspace).findings if one.what == "base"]
    assert told in caught.value.what
    assert caught.value.where == f"{project / 'perfusion.toml'}, base.controls.canny"
    assert "\n" not in caught.value.what
    assert caught.value.hint
    assert (found.state, caught.value.what in found.told) == ("broken", True)


def test_a_union_is_called_after_what_it_reads(tmp_path: Path) -> None:
    xl = save_tiny_sdxl(tmp_path / "sdxl")
    random_union(xl_unet(), kinds=6).save_pretrained(tmp_path / "union")
    for name in ("edges", "tile"):
        error = refusal(xl, tmp_path, controls={name: "./union"})
        assert f"reads pictures of 6 kinds, and `{name}` is called after none of them" in error.what
        assert "openpose, depth" in str(error.hint)
        assert "tile" not in str(error.hint)
    one, other = described(
        xl, tmp_path, controls={"softedge-3": "./union", "openpose": "./union"}
    ).options.controls
    assert (one.mode, other.mode) == (0, 2)


def test_a_small_one_that_reads_no_text_is_drawn_with(
    loaded_tiny_base: Base, tiny_base_folder: Path, tmp_path: Path
) -> None:
    from perfusion_registry.base import load_base
    from perfusion_registry.base.controls import networks, readers

    unet = loaded_tiny_base.pipe.unet
    small = {
        "down_block_types": ("DownBlock2D",) * len(unet.config.down_block_types),
        "mid_block_type": "UNetMidBlock2D",
    }
    config = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8)).config
    ControlNetModel.from_config({**config, **small}).save_pretrained(tmp_path / "small")
    base = load_base(described(tiny_base_folder, tmp_path, controls={"canny": "./small"}), "cpu", "float32")
    (reader,) = readers(networks(base, base.description.options.controls))
    assert list(reader.attentions) == []
    assert describe_base(str(tiny_base_folder)).family == base.description.family
