"""What is not right about a file is said in one sentence, and never in another way."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from perfusion_registry.adapters.names import ModuleNames
from perfusion_registry.adapters.reading import look_into, read_adapters
from perfusion_registry.errors import PerfError
from tests.adapters.dialects import ANY_KIND, save, save_header
from tests.adapters.samples import real_modules, tiny_modules
from tests.adapters.test_reading import places, random_adapter

MODULE = "lora_unet_mid_block_resnets_0_time_emb_proj"


def good(kind: str = "lora") -> dict[str, Tensor]:
    torch.manual_seed(0)
    modules = tiny_modules()
    made = [random_adapter(kind, place, modules, alpha=True)[0] for place in places(modules)]
    return ANY_KIND["kohya"](made, ModuleNames(modules))


def refusal(path: Path) -> PerfError:
    with pytest.raises(PerfError) as caught:
        read_adapters(path, tiny_modules())
    assert "\n" not in caught.value.what
    assert len(caught.value.what) < 500
    return caught.value


FIRST = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
ELSEWHERE = "lora_unet_sun.lora_up.weight"
NAN, INFINITE = torch.tensor([[torch.nan] * 3] * 64), torch.tensor(torch.inf)
OUTPUT = "bundle_emb.toy.clip_l_out"


def plus(key: str, tensor: Tensor) -> dict[str, Tensor]:
    """A good file with one tensor more, or another one."""
    return {**good(), key: tensor}


def minus(end: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in good().items() if key != f"{FIRST}.{end}"}


MISTAKES: dict[str, tuple[dict[str, Tensor], str]] = {
    "an unknown key": (plus(f"{FIRST}.lora_sideways", torch.ones(2)), "lora_sideways"),
    "an unknown module": (plus(ELSEWHERE, torch.ones(2, 2)), "changes denoiser's `sun`, which the base does"),
    "half of a pair": (minus("lora_up.weight"), "`lora_up` is missing"),
    "an alpha without an adapter": ({f"{FIRST}.alpha": torch.tensor(1.0)}, "of no one kind"),
    "two kinds in one place": (plus(f"{FIRST}.lokr_w1", torch.ones(2, 2)), "of no one kind"),
    "a number twice": (plus(f"{FIRST}.lora_A.weight", torch.ones(3, 32)), "two tensors are for one place"),
    "an alpha of two numbers": (plus(f"{FIRST}.alpha", torch.ones(2)), "is no one number"),
    "a NaN": (plus(f"{FIRST}.lora_up.weight", NAN), "not finite"),
    "an infinite alpha": (plus(f"{FIRST}.alpha", INFINITE), "not finite"),
    "other shapes": (
        plus(f"{FIRST}.lora_down.weight", torch.ones(3, 33)),
        "the change has the shape 64x33, and the base's weight 64x32",
    ),
    "whole numbers": (plus(f"{FIRST}.lora_up.weight", torch.ones(64, 3).int()), "is I32"),
    "OFT": ({f"{FIRST}.oft_blocks": torch.ones(2, 3, 3)}, "this is OFT or BOFT"),
    "GLoRA": ({f"{FIRST}.a1.weight": torch.ones(2, 3)}, "this is GLoRA"),
    "(IA)^3": ({f"{FIRST}.weight": torch.ones(2), f"{FIRST}.on_input": torch.ones(1)}, "this is (IA)^3"),
    "nothing": ({}, "there are no adapters in this file"),
    "another width": ({"emb_params": torch.ones(2, 768)}, "768 numbers a token, and the base's"),
    "output embeddings": (plus(OUTPUT, torch.ones(1, 32)), f"its embedding `{OUTPUT}` is of no kind"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_wrong_is_said(tmp_path: Path, name: str) -> None:
    tensors, told = MISTAKES[name]
    error = refusal(save(tmp_path / "it.safetensors", tensors))
    assert told in error.what
    assert error.where == str(tmp_path / "it.safetensors")


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".bin", ".pth", ".pkl"])
def test_a_pickle_is_never_opened_and_there_is_a_way_out(tmp_path: Path, suffix: str) -> None:
    mark = tmp_path / "ran"
    file = tmp_path / f"it{suffix}"
    file.write_bytes(b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.")
    error = refusal(file)
    assert "this is a pickle" in error.what
    assert "weights_only=True" in str(error.hint)
    assert not mark.exists()
    folder = tmp_path / "folder"
    folder.mkdir()
    file.rename(folder / file.name)
    assert "this is a pickle" in refusal(folder).what


def test_the_way_out_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that is told converts a LoRA, and embeddings of diffusers and A1111, to what is read."""
    monkeypatch.chdir(tmp_path)
    vectors = torch.nn.Parameter(torch.ones(2, 32))
    for name, content in {
        "lora.pt": good(),
        "learned_embeds.bin": {"<toy>": torch.ones(32)},
        "toy.pt": {
            "string_to_token": {"*": 265},
            "string_to_param": {"*": vectors},
            "name": "toy",
            "step": 9,
        },
    }.items():
        torch.save(content, name)
        hint = str(refusal(tmp_path / name).hint)
        exec(hint[hint.index('"') + 1 : -1], {})
        read = read_adapters((tmp_path / name).with_suffix(".safetensors"), tiny_modules())
        assert read.adapters if name == "lora.pt" else read.embeddings


def test_folders_are_pefts_or_diffusers(tmp_path: Path) -> None:
    assert "there is no adapter_model.safetensors" in refusal(tmp_path).what
    save(tmp_path / "adapter_model.safetensors", good())
    (tmp_path / "adapter_config.json").write_text("{")
    assert "adapter_config.json cannot be read" in refusal(tmp_path).what
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 4}))
    assert read_adapters(tmp_path, tiny_modules()).adapters


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        ({"lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": (4, 3072)}, "FLUX"),
        ({"transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight": (4, 3072)}, "FLUX"),
        ({"diffusion_model.blocks.0.cross_attn.k_proj.lora_A.weight": (8, 2048)}, "Anima"),
        ({"lora_unet_blocks_0_cross_attn_k_proj.lora_down.weight": (8, 2048)}, "Anima"),
        ({"lora_unet_transformer_blocks_0_attn_to_k.lokr_w1": (8, 16)}, "Qwen-Image"),
        ({"diffusion_model.layers.0.attention.qkv.lora_A.weight": (8, 16)}, "Z-Image or Lumina"),
        ({"diffusion_model.joint_blocks.0.x_block.attn.qkv.lora_A.weight": (8, 16)}, "Stable Diffusion 3"),
        ({"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": (8, 2048)}, "SDXL"),
    ],
)  # fmt: skip
def test_a_file_for_another_base_is_refused_with_both_names(
    tmp_path: Path, keys: dict[str, tuple[int, ...]], kind: str
) -> None:
    file = save_header(tmp_path / "it.safetensors", keys, {"ss_sd_model_name": "some.safetensors"})
    with pytest.raises(PerfError, match="this was made for") as caught:
        look_into(file, real_modules("Stable Diffusion 1"))
    assert (
        caught.value.what
        == f"this was made for {kind} (some.safetensors), and the base is Stable Diffusion 1"
    )


WORDS = ["64", "32", "lora_up", "lokr_w1", "F32", "weight", "_0_", "alpha", "hada_w1_a", "[", "text"]
OTHERS = ["", *["0", "-1", "33", "4294967296", "F16", "I64", "weight.x", "_9_", "diff", "[[", "unet"]]


def test_damaged_files_are_refused_or_read_and_nothing_else(tmp_path: Path) -> None:
    """Cut, with bits turned around, with words of their headers changed: 600 of them."""
    chance = random.Random(0)
    modules = tiny_modules()
    wholes = [
        save(tmp_path / f"{kind}.safetensors", good(kind)).read_bytes() for kind in ("lora", "lokr", "loha")
    ]
    file = tmp_path / "damaged.safetensors"
    told: list[str] = []
    for number in range(600):
        data = bytearray(chance.choice(wholes))
        length = int.from_bytes(data[:8], "little")
        match number % 4:
            case 0:
                del data[chance.randrange(len(data)) :]
            case 1:
                for _ in range(chance.randint(1, 6)):
                    data[chance.randrange(8 + length)] ^= 1 << chance.randrange(8)
            case 2:
                header = data[8 : 8 + length].decode()
                word = chance.choice(WORDS)
                at = [place for place in range(length) if header.startswith(word, place)]
                if not at:
                    continue
                place = chance.choice(at)
                header = header[:place] + chance.choice(OTHERS) + header[place + len(word) :]
                text = header.encode()
                data = bytearray(len(text).to_bytes(8, "little") + text + data[8 + length :])
            case _:
                place = 8 + length + 4 * chance.randrange((len(data) - 8 - length) // 4)
                data[place : place + 4] = chance.choice([b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff"])
        file.write_bytes(data)
        try:
            read_adapters(file, modules)
        except PerfError as error:
            told.append(error.what)
    assert len(told) > 400
    assert [what for what in told if "\n" in what or len(what) > 500] == []
