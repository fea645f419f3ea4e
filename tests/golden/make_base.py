"""How `format1/base` was made: once, at the commit that `format1/README.md` names.

python -m tests.golden.make_base
"""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import tempfile
from pathlib import Path

from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from tests.golden.base import KEPT, SHAPES
from tests.tiny import save_tiny_tokenizer, text_config, tiny_clip

CARD = """\
[train]
steps = 3
batch = 2
validate_every = 2
validation_steps = 1
validation_prompts = ["a photo of a {}", "a {} in the snow"]

[render]
steps = 2
guidance = 2.0
width = 64
height = 64
"""
LICENCE = "---\nlicense: openrail\n---\n\nRandom numbers, for the tests.\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _save(folder)
        shapes = {}
        for path in sorted(folder.rglob("*.safetensors")):
            data = path.read_bytes()
            (length,) = struct.unpack("<Q", data[:8])
            header = json.loads(data[8 : 8 + length])
            header.pop("__metadata__", None)
            kinds = {entry["dtype"] for entry in header.values()}
            assert kinds == {"F32"}, kinds
            inside = path.relative_to(folder).with_suffix("").as_posix()
            shapes[inside] = {key: entry["shape"] for key, entry in sorted(header.items())}
            path.unlink()
        for file in (folder / "clip").glob("tokenizer*"):
            file.unlink()  # the tokenizer's own are copied there
        text = json.dumps(shapes, separators=(",", ":")).encode()
        (folder / SHAPES).write_bytes(gzip.compress(text, mtime=0))
        shutil.rmtree(KEPT, ignore_errors=True)
        shutil.copytree(folder, KEPT)


def _save(folder: Path) -> None:
    tokenizer = save_tiny_tokenizer(folder / "tokenizer")
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
    )
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text_config(tokenizer)),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    tiny_clip(tokenizer).save_pretrained(folder / "clip")
    (folder / "perf-base.toml").write_text(CARD, encoding="utf-8")
    (folder / "README.md").write_text(LICENCE, encoding="utf-8")


if __name__ == "__main__":
    main()
