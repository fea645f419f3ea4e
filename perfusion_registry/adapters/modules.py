"""The modules of a base that adapters can change, and the shapes of their weights, by configurations alone.

They are those of diffusers' UNets and of transformers' CLIP text encoders, by the paths that their files
have: linear layers, convolutions and norms. Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from perfusion_registry.adapters.adapter import COMPONENTS
from perfusion_registry.errors import PerfError

Shape = tuple[int, ...]
Modules = Mapping[str, Mapping[str, Shape]]
"""By component: the shape of the weight of each module, by its path."""

_CROSS = {"CrossAttnDownBlock2D", "CrossAttnUpBlock2D", "UNetMidBlock2DCrossAttn"}
_PLAIN = {"DownBlock2D", "UpBlock2D", "UNetMidBlock2D"}


def modules_of(configurations: Mapping[str, Mapping[str, Any]]) -> Modules:
    """The modules of a base. configurations: `config.json` of `unet`, `text_encoder` and `text_encoder_2`, as
    far as the base has them. Raises PerfError for a UNet of other blocks than those of Stable Diffusion."""
    found: dict[str, dict[str, Shape]] = {}
    for component, name in zip(COMPONENTS, ("unet", *COMPONENTS[1:]), strict=True):
        configuration = configurations.get(name)
        if configuration is not None:
            made = _unet(configuration) if name == "unet" else _clip(configuration)
            found[component] = dict(made)
    return found


def _clip(config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    width, inner = int(config.get("hidden_size", 512)), int(config.get("intermediate_size", 2048))
    for number in range(int(config.get("num_hidden_layers", 12))):
        layer = f"text_model.encoder.layers.{number}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"{layer}.self_attn.{name}", (width, width)
        yield f"{layer}.mlp.fc1", (inner, width)
        yield f"{layer}.mlp.fc2", (width, inner)
        yield f"{layer}.layer_norm1", (width,)
        yield f"{layer}.layer_norm2", (width,)
    yield "text_model.final_layer_norm", (width,)
    if "CLIPTextModelWithProjection" in (config.get("architectures") or ()):
        yield "text_projection", (int(config.get("projection_dim", 512)), width)


def _unet(config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    """Sides as diffusers builds them: widths go down, and up again with those of the way down beside."""
    widths: Sequence[int] = config.get("block_out_channels") or (320, 640, 1280, 1280)
    down = config.get("down_block_types") or (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D")
    up = config.get("up_block_types") or ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3)
    count = len(widths)
    layers, text, deep, only = (
        _each(config.get(key) or usual, count)
        for key, usual in (
            ("layers_per_block", 2),
            ("cross_attention_dim", 1280),
            ("transformer_layers_per_block", 1),
            ("only_cross_attention", False),
        )
    )
    time = int(config.get("time_embedding_dim") or 4 * widths[0])
    blocks = _Blocks(config, time)
    yield "conv_in", (widths[0], int(config.get("in_channels", 4)), *[config.get("conv_in_kernel", 3)] * 2)
    yield "time_embedding.linear_1", (time, widths[0])
    yield "time_embedding.linear_2", (time, time)
    if config.get("addition_embed_type") == "text_time":
        yield "add_embedding.linear_1", (time, int(config["projection_class_embeddings_input_dim"]))
        yield "add_embedding.linear_2", (time, time)

    before = widths[0]
    for number, (kind, width) in enumerate(zip(down, widths, strict=True)):
        path, own = f"down_blocks.{number}", layers[number]
        sizes = [before, *[width] * (own - 1)]
        depths = _each(deep[number], own)
        yield from blocks.block(path, kind, sizes, width, text[number], depths, bool(only[number]))
        if number < count - 1:
            yield f"{path}.downsamplers.0.conv", (width, width, 3, 3)
        before = width

    kind, width = config.get("mid_block_type", "UNetMidBlock2DCrossAttn"), widths[-1]
    if kind is not None:
        depths = _each(deep[-1], 1)
        alone = bool(config.get("mid_block_only_cross_attention") or False)
        yield from blocks.block("mid_block", kind, [width, width], width, text[-1], depths, alone)

    back = config.get("reverse_transformer_layers_per_block") or list(reversed(deep))
    before = widths[-1]
    for number, kind in enumerate(up):
        place = count - 1 - number
        width, beside = widths[place], widths[max(place - 1, 0)]
        path, own = f"up_blocks.{number}", layers[place] + 1
        sizes = [before + width, *[2 * width] * (own - 2), width + beside]
        if own == 1:
            sizes = [before + beside]
        depths = _each(back[number], own)
        yield from blocks.block(path, kind, sizes, width, text[place], depths, bool(only[place]))
        if number < count - 1:
            yield f"{path}.upsamplers.0.conv", (width, width, 3, 3)
        before = width
    yield "conv_norm_out", (widths[0],)
    yield "conv_out", (int(config.get("out_channels", 4)), widths[0], *[config.get("conv_out_kernel", 3)] * 2)


class _Blocks:
    def __init__(self, config: Mapping[str, Any], time: int) -> None:
        self.time = time
        self.linear = bool(config.get("use_linear_projection"))
        self.both = 2 if config.get("resnet_time_scale_shift") == "scale_shift" else 1
        self.twice = bool(config.get("dual_cross_attention"))

    def block(
        self,
        path: str,
        kind: str,
        sizes: Sequence[int],
        width: int,
        text: int,
        depths: Sequence[int],
        only: bool,
    ) -> Iterator[tuple[str, Shape]]:
        """A block of resnets that take `sizes` channels, with attentions `depths` layers deep where it has
        them."""
        if kind not in _CROSS | _PLAIN or self.twice:
            what = "two kinds of attention in each layer" if self.twice else f"blocks of the kind {kind}"
            raise PerfError(
                f"the base's UNet has {what}, whose layers perf cannot name",
                hint="use a base like Stable Diffusion 1.x, 2.x or SDXL",
            )
        for number, size in enumerate(sizes):
            yield from self.resnet(f"{path}.resnets.{number}", size, width)
        if kind in _CROSS:
            for number, depth in enumerate(depths):
                yield from self.transformer(f"{path}.attentions.{number}", width, text, depth, only)

    def resnet(self, path: str, size: int, width: int) -> Iterator[tuple[str, Shape]]:
        """A residual block."""
        yield f"{path}.norm1", (size,)
        yield f"{path}.conv1", (width, size, 3, 3)
        yield f"{path}.time_emb_proj", (self.both * width, self.time)
        yield f"{path}.norm2", (width,)
        yield f"{path}.conv2", (width, width, 3, 3)
        if size != width:
            yield f"{path}.conv_shortcut", (width, size, 1, 1)

    def transformer(
        self, path: str, width: int, text: int, depth: int, only: bool
    ) -> Iterator[tuple[str, Shape]]:
        """Transformer layers between two projections."""
        outside = (width, width) if self.linear else (width, width, 1, 1)
        yield f"{path}.norm", (width,)
        yield f"{path}.proj_in", outside
        for number in range(depth):
            layer = f"{path}.transformer_blocks.{number}"
            for name, read in (("attn1", text if only else width), ("attn2", text)):
                yield f"{layer}.{name}.to_q", (width, width)
                yield f"{layer}.{name}.to_k", (width, read)
                yield f"{layer}.{name}.to_v", (width, read)
                yield f"{layer}.{name}.to_out.0", (width, width)
            yield f"{layer}.ff.net.0.proj", (8 * width, width)
            yield f"{layer}.ff.net.2", (width, 4 * width)
            yield from ((f"{layer}.norm{one}", (width,)) for one in (1, 2, 3))
        yield f"{path}.proj_out", outside


def _each(value: Any, count: int) -> list[Any]:
    """One for each: of a list its own, else the value for all."""
    return list(value) if isinstance(value, list | tuple) else [value] * count
