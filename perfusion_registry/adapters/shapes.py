"""What the shapes of an adapter's tensors come to: the shape of the change, or what does not fit in them.

Importing this needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from perfusion_registry.adapters.adapter import AdapterKind

Shapes = Mapping[str, tuple[int, ...]]

_NEEDED: Mapping[str, frozenset[str]] = {
    "lora": frozenset({"lora_down", "lora_up"}),
    "loha": frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),
    "full": frozenset(),
}


def mistake(kind: AdapterKind, shapes: Shapes, weight: tuple[int, ...], bias: bool = True) -> str | None:
    """What keeps tensors of these shapes from changing a weight of that shape, in words that follow "of this
    module"; None where nothing does. bias: whether the module may have one."""
    try:
        made = _MADE[kind](shapes, weight)
    except _MisshapenError as error:
        return str(error)
    if made is not None and (made[:2] != weight[:2] or prod(made) != prod(weight)):
        return f"the change has the shape {_told(made)}, and the base's weight {_told(weight)}"
    if "dora_scale" in shapes:
        return _magnitude(shapes["dora_scale"], weight)
    if "diff_b" in shapes and prod(shapes["diff_b"]) != weight[0]:
        return f"the change of the bias has {prod(shapes['diff_b'])} numbers, and the base's bias {weight[0]}"
    return None


class _MisshapenError(Exception):
    pass


def _require(kind: str, shapes: Shapes) -> None:
    missing = sorted(_NEEDED[kind] - shapes.keys())
    if missing:
        raise _MisshapenError(f"`{missing[0]}` is missing")


def _product(a: tuple[int, ...], b: tuple[int, ...], names: tuple[str, str]) -> tuple[int, ...]:
    """Of a (out, r, 1...) and b (r, in, kernel...)."""
    if len(a) < 2 or len(b) < 2 or prod(a[2:]) != 1 or a[1] != b[0] or not prod(a) * prod(b):
        raise _MisshapenError(f"`{names[0]}` {_told(a)} and `{names[1]}` {_told(b)} do not multiply")
    return (a[0], *b[1:])


def _lora(shapes: Shapes, weight: tuple[int, ...]) -> tuple[int, ...]:
    _require("lora", shapes)
    up, down = shapes["lora_up"], shapes["lora_down"]
    if "lora_mid" not in shapes:
        return _product(up, down, ("lora_up", "lora_down"))
    middle = shapes["lora_mid"]
    upper = _product(up, middle, ("lora_up", "lora_mid"))
    _product(middle[:2], down, ("lora_mid", "lora_down"))
    if prod(down[2:]) != 1:
        raise _MisshapenError(f"`lora_down` {_told(down)} has a kernel beside that of `lora_mid`")
    return (upper[0], down[1], *middle[2:])


def _loha(shapes: Shapes, weight: tuple[int, ...]) -> tuple[int, ...]:
    _require("loha", shapes)
    halves = []
    for number in "12":
        names = f"hada_w{number}_a", f"hada_w{number}_b", f"hada_t{number}"
        a, b = shapes[names[0]], shapes[names[1]]
        middle = shapes.get(names[2])
        halves.append(_product(a, b, names[:2]) if middle is None else _tucker(a, b, middle, names))
    if len(halves[0]) < 2 or halves[0] != halves[1]:
        raise _MisshapenError(f"its two halves have the shapes {_told(halves[0])} and {_told(halves[1])}")
    if ("hada_t1" in shapes) != ("hada_t2" in shapes):
        raise _MisshapenError("only one of its halves has a kernel")
    return _folded(halves[0], weight)


def _lokr(shapes: Shapes, weight: tuple[int, ...]) -> tuple[int, ...]:
    halves = []
    for number in "12":
        whole = f"lokr_w{number}"
        names = f"{whole}_a", f"{whole}_b", f"lokr_t{number}"
        missing = sorted(set(names[:2]) - shapes.keys())
        if whole in shapes:
            if len(missing) < 2:
                raise _MisshapenError(f"`{whole}` is there whole and in factors")
            halves.append(shapes[whole])
        elif missing:
            raise _MisshapenError(f"`{whole if len(missing) == 2 else missing[0]}` is missing")
        else:
            a, b, middle = shapes[names[0]], shapes[names[1]], shapes.get(names[2])
            halves.append(_product(a, b, names[:2]) if middle is None else _tucker(a, b, middle, names))
    first, second = halves
    if len(first) != 2 or len(second) < 2 or not prod(first) * prod(second):
        raise _MisshapenError(f"its halves have the shapes {_told(first)} and {_told(second)}")
    kernel = weight[2:] if len(second) == 2 else second[2:]
    inside = prod(second[1:]) // max(prod(kernel), 1)
    if inside * prod(kernel) != prod(second[1:]):
        raise _MisshapenError(
            f"its second half, {_told(second)}, has no kernel like the base's {_told(weight)}"
        )
    return (first[0] * second[0], first[1] * inside, *kernel)


def _full(shapes: Shapes, weight: tuple[int, ...]) -> tuple[int, ...] | None:
    return shapes.get("diff")


_MADE: Mapping[str, Callable[[Shapes, tuple[int, ...]], tuple[int, ...] | None]] = {
    "lora": _lora, "loha": _loha, "lokr": _lokr, "full": _full
}  # fmt: skip


def _tucker(
    a: tuple[int, ...], b: tuple[int, ...], middle: tuple[int, ...], names: tuple[str, ...]
) -> tuple[int, ...]:
    """Of a (r, out), b (r, in) and a kernel (r, r, ...) between them."""
    if len(a) != 2 or len(b) != 2 or len(middle) < 3 or middle[:2] != (a[0], b[0]):
        told = ", ".join(
            f"`{name}` {_told(shape)}" for name, shape in zip(names, (a, b, middle), strict=True)
        )
        raise _MisshapenError(f"{told} do not multiply")
    return (a[1], b[1], *middle[2:])


def _folded(made: tuple[int, ...], weight: tuple[int, ...]) -> tuple[int, ...]:
    """A matrix of a convolution, (out, in times its kernel), with the kernel of the base."""
    if len(made) == 2 and made[1] == prod(weight[1:]):
        return weight if made[0] == weight[0] else (made[0], *weight[1:])
    return made


def _magnitude(shape: tuple[int, ...], weight: tuple[int, ...]) -> str | None:
    ones = [1] * (len(weight) - 2)
    wanted = [(weight[0],), (weight[0], 1), (weight[0], 1, *ones), (1, weight[1]), (1, weight[1], *ones)]
    if len(weight) > 1 and shape in wanted:
        return None
    return f"`dora_scale` has the shape {_told(shape)}, and the base's weight {_told(weight)}"


def _told(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
