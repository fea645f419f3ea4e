"""The painter: many pictures at once from their shapes, as signed distance fields in torch, with exact
masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from perfusion_registry.storybook.world.shape import (
    BANDS,
    COLUMNS,
    GLASS,
    GOLD,
    KNIT,
    SPOTS,
    STRIPES,
    WOOD,
    Backdrop,
    Shape,
)

PRINT = 0.7 / 128
"""Deviation of the Gaussian that softens a picture, as a share of its width."""

_AT = {name: index for index, name in enumerate(COLUMNS)}


@dataclass(frozen=True)
class Canvas:
    """Painted pictures.

    images: (B, 3, size, size) in 0..1. owners: (B, size, size) uint8, 0 scenery, 1 and 2 the subjects.
    """

    images: Tensor
    owners: Tensor


@torch.no_grad()
def paint(
    drawings: Sequence[tuple[Backdrop, Sequence[Shape]]],
    styles: Sequence[str | None] | None = None,
    *,
    size: int = 128,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Canvas:
    """Paint a batch of drawings, shape by shape from back to front.

    Shapes at the same depth of different pictures, of a like size and kind, are painted in one operation on a
    window just large enough for them. `seed` moves the grain of painted styles only.
    """
    n = len(drawings)
    colours = _backdrops([backdrop for backdrop, _ in drawings], size, device)  # (n * size * size, 3)
    owners = torch.zeros(n * size * size, dtype=torch.uint8, device=device)
    rows = [shape.row() for _, shapes in drawings for shape in shapes]
    picture = torch.tensor([i for i, (_, shapes) in enumerate(drawings) for _ in shapes])
    depth = torch.tensor([k for _, shapes in drawings for k in range(len(shapes))])
    if rows:
        table = torch.tensor(rows)
        windows = torch.tensor(
            [max(6, round(size * share)) for share in (0.08, 0.14, 0.22, 0.34, 0.5, 0.7, 1.0)]
        )
        bucket = torch.bucketize(_extent(table) * size + 4, windows.float()).clamp_max(len(windows) - 1)
        key = depth * 32 + bucket * 2 + table[:, 0].long()
        order = torch.argsort(key, stable=True)
        key, counts = torch.unique_consecutive(key[order], return_counts=True)
        table, picture = table[order].to(device), picture[order].to(device)
        start = 0
        for code, count in zip(key.tolist(), counts.tolist(), strict=True):
            part = slice(start, start + count)
            window = int(windows[(code % 32) // 2])
            _paint_group(table[part], picture[part], code % 2, window, size, colours, owners)
            start += count
    images = _printed(colours.view(n, size, size, 3).permute(0, 3, 1, 2).contiguous())
    wet = [i for i, style in enumerate(styles or []) if style == "watercolor"]
    if wet:
        images[wet] = _watercolor(images[wet], torch.Generator().manual_seed(seed))
    return Canvas(images.clamp_(0, 1), owners.view(n, size, size))


def _printed(images: Tensor) -> Tensor:
    """The pictures (B, 3, size, size) with the softness of print: a Gaussian of PRINT of their width.

    Outlines sharper than that would take most of what 16 x 16 latents can tell, and a picture no further.
    """
    size = images.shape[-1]
    sigma = PRINT * size
    reach = math.ceil(2.5 * sigma)
    at = torch.arange(-reach, reach + 1, device=images.device)
    row = torch.exp(-0.5 * (at / sigma) ** 2)
    row = (row / row.sum()).expand(3, 1, 1, -1)
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, row, groups=3), row.mT, groups=3)


def _extent(table: Tensor) -> Tensor:
    """Full width of the axis-aligned square around each shape, as a share of the frame. table: (m,
    columns)."""
    angle, hx, hy = table[:, _AT["angle"]], table[:, _AT["hx"]], table[:, _AT["hy"]]
    cos, sin = angle.cos().abs(), angle.sin().abs()
    return torch.maximum(hx * cos + hy * sin, hx * sin + hy * cos) + table[:, _AT["hollow"]]


def _backdrops(backdrops: Sequence[Backdrop], size: int, device: str | torch.device) -> Tensor:
    rows = torch.tensor([b.row() for b in backdrops], device=device)
    y = ((torch.arange(size, device=device) + 0.5) / (size / 2) - 1)[None, :, None]
    horizon = rows[:, 6][:, None, None]
    above = ((y + 1) / (horizon + 1)).clamp(0, 1)
    below = ((y - horizon) / (1 - horizon).clamp_min(0.05)).clamp(0, 1)
    sky = rows[:, None, 0:3] * (1 - above) + rows[:, None, 3:6] * above
    ground = rows[:, None, 7:10] * (1 - below) + rows[:, None, 10:13] * below
    column = torch.where(y < horizon, sky, ground)  # (n, size, 3)
    return column[:, :, None, :].expand(-1, size, size, 3).reshape(-1, 3).contiguous()


def _paint_group(
    table: Tensor,  # (m, columns)
    picture: Tensor,  # (m,)
    kind: int,
    window: int,
    size: int,
    colours: Tensor,  # (n * size * size, 3), painted in place
    owners: Tensor,  # (n * size * size,), painted in place
) -> None:
    def column(name: str) -> Tensor:
        return table[:, _AT[name], None, None]

    half = size / 2
    left = ((table[:, _AT["x"]] + 1) * half - window / 2).round().clamp(0, size - window).long()
    top = ((table[:, _AT["y"]] + 1) * half - window / 2).round().clamp(0, size - window).long()
    span = torch.arange(window, device=table.device)
    dx = ((left[:, None] + span + 0.5) / half - 1)[:, None, :] - column("x")
    dy = ((top[:, None] + span + 0.5) / half - 1)[:, :, None] - column("y")
    cos, sin = column("angle").cos(), column("angle").sin()
    x, y = cos * dx + sin * dy, cos * dy - sin * dx  # the shape's own frame, (m, window, window)
    hx, hy = column("hx"), column("hy")
    u, v = x / hx, y / hy

    if kind == 0:
        radius = (u * u + v * v).sqrt()
        slope = ((u / hx) ** 2 + (v / hy) ** 2).sqrt().clamp_min(1e-4)
        distance = radius * (radius - 1) / slope
    else:
        width = hx * (1 - column("taper") * (0.5 - 0.5 * v.clamp(-1, 1)))
        rounding = column("rounding") * torch.minimum(hx, hy)
        qx, qy = x.abs() - width + rounding, y.abs() - hy + rounding
        outside = (qx.clamp_min(0) ** 2 + qy.clamp_min(0) ** 2).sqrt()
        distance = outside + torch.maximum(qx, qy).clamp_max(0) - rounding
    hollow = column("hollow")
    if bool((hollow > 0).any()):
        distance = torch.where(hollow > 0, distance.abs() - hollow, distance)
    if bool((table[:, _AT["cut"]] > -5).any()):
        distance = torch.maximum(distance, column("cut") * hy - y)
    pixels = distance * half
    # Outlines and edges keep their share of the frame, so that a drawing looks alike at every size.
    edge = pixels * (128 / size)

    alpha = (0.5 - pixels).clamp(0, 1) * column("alpha")
    blend = torch.zeros_like(distance)
    patterns = table[:, _AT["pattern"]]
    for pattern in patterns.unique().tolist():
        if pattern == 0:
            continue
        m = (patterns == pattern).nonzero()[:, 0]
        frequency = table[m, _AT["frequency"]][:, None, None]
        blend[m] = _pattern(int(pattern), u[m], v[m], x[m], y[m], frequency).clamp(0, 1)
        if pattern == GLASS:
            rim = torch.maximum(blend[m] * 0.9, ((edge[m] + 4) / 4).clamp(0, 1) * 0.85)
            alpha[m] = torch.maximum(alpha[m], (0.5 - pixels[m]).clamp(0, 1) * rim)
    light = 1 + column("shade") * 0.16 * (-0.5 * u - 0.8 * v).clamp(-1, 1)
    light = light - 0.55 * column("outline") * ((edge + 2.2) / 1.6).clamp(0, 1)
    first, second = table[:, None, None, 13:16], table[:, None, None, 16:19]
    colour = ((first + (second - first) * blend[..., None]) * light[..., None]).clamp(0, 1).reshape(-1, 3)

    index = (
        picture[:, None, None] * (size * size) + (top[:, None] + span)[:, :, None] * size
        + (left[:, None] + span)[:, None, :]
    ).reshape(-1)  # fmt: skip
    alpha = alpha.reshape(-1, 1)
    old = colours[index]
    colours[index] = old + (colour - old) * alpha
    owner = table[:, _AT["owner"]].to(torch.uint8)[:, None, None].expand(-1, window, window).reshape(-1)
    owners[index] = torch.where(alpha[:, 0] > 0.45, owner, owners[index])


def _pattern(pattern: int, u: Tensor, v: Tensor, x: Tensor, y: Tensor, frequency: Tensor) -> Tensor:
    """How much of the second colour shows at each point; u, v in units of the half sizes, x, y of the
    frame."""
    if pattern == STRIPES:
        return torch.sin(u * frequency * math.pi) * 4 + 0.5
    if pattern == BANDS:
        return torch.sin(v * frequency * math.pi) * 4 + 0.5
    if pattern == SPOTS:
        return (torch.cos(u * frequency * math.pi) * torch.cos(v * frequency * math.pi) - 0.35) * 6
    if pattern == WOOD:
        return 0.5 + 0.5 * torch.sin(v * frequency * 2.2 + 1.5 * torch.sin(u * 2.1))
    if pattern == KNIT:
        return torch.sin((x + y) * 48) * torch.sin((y - x) * 48) * 1.5
    if pattern == GOLD:
        ramp = u * 0.8 + v * 0.6
        return torch.exp(-(((ramp + 0.35) / 0.28) ** 2)) + 0.35 * torch.exp(-(((ramp - 0.5) / 0.2) ** 2))
    return torch.exp(-(((u + 0.5) / 0.16) ** 2))


def _watercolor(images: Tensor, generator: torch.Generator) -> Tensor:
    """Soft edges, uneven wash and the paper showing at the borders. images: (b, 3, s, s)."""
    count, _, size, _ = images.shape

    def noise(cells: int) -> Tensor:
        grain = torch.randn(count, 1, cells, cells, generator=generator).to(images.device)
        return functional.interpolate(grain, size=(size, size), mode="bicubic")

    reach = max(1, round(size * 3 / 128))
    blurred = functional.avg_pool2d(functional.pad(images, (reach,) * 4, mode="replicate"), 2 * reach + 1, 1)
    wash = (0.52 + 0.16 * noise(7) + 0.06 * noise(24)).clamp(0.15, 0.85) * 0.7
    paper = torch.tensor([0.98, 0.96, 0.90], device=images.device)[None, :, None, None]
    across = torch.linspace(-1, 1, size, device=images.device).abs() ** 6
    border = (across[None, :] + across[:, None]).clamp(0, 1)
    painted = (0.4 * images + 0.6 * blurred) * (1 - wash) + paper * wash
    return painted * (1 - border) + paper * border
