"""What is asked of each architecture: the columns, each a function of a row.

A cell holds numbers that were measured and whether they are within its bound; a refusal is one that a person
would read, and anything else that goes wrong says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.matrix.full_size import FULL_SIZES
from benchmarks.matrix.rows import BUILD, ONE, TWO, Row, spoken
from perfusion_registry.base import Form, describe_base, layouts, load_base
from perfusion_registry.build import estimate_covariance
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.render.start import StartImage
from tests.cuda_stand_in import OnCuda, cuda_stand_in
from tests.one_file import save_one_file, tiny_layout
from tests.planted import CAPTIONS, CASES, recover

ANSWER, LEVELS = 1e-5, 1
"""How far an answer of the denoiser (whose numbers are about 1), and a picture of 255 levels, may be from
those of the model that was edited by hand."""
LEFT = 0.01
"""What may be left of the loss of a planted concept."""
ROUNDING = 2.0
"""How many times the unedited model's own rounding to half precision the edited one's may be."""
BUILT, BUILT_LEVELS = 0.05, 2
"""How far a build may be from the processor's, as a part of each tensor's largest number, and its picture."""
LAYOUTS = {"SD 1": 1, "SD 2": 2, "SDXL": 3}


@dataclass(frozen=True)
class Cell:
    """text: what the table says. good: whether it is as it should be. numbers: what was measured, by name."""

    text: str
    good: bool
    numbers: Mapping[str, float] = field(default_factory=dict)
    refused: bool = False


def filled(column: str, row: Row) -> Cell:
    """A cell of the table, whatever happens."""
    try:
        return COLUMNS[column](row)
    except PerfError as error:
        told = error.what.replace(f"`{row.folder}`", "the base")
        return Cell(f"refused: {told}", column in EXPECTED_REFUSALS.get(row.name, ()), refused=True)
    except Exception as error:  # noqa: BLE001 - one cell that fails must not hide the others
        return Cell(f"failed: {type(error).__name__}: {str(error).splitlines()[0][:100]}", False)


def recognised(row: Row) -> Cell:
    """Known by its files; unedited it is the stock pipeline, attached or not; one file is of its family."""
    base = row.base
    about = base.description
    picture = row.drawn(base, compose(parse_prompt(spoken(ONE)), {}, base))
    levels = apart(picture, row.stock(ONE))
    answer = apart(row.answered(base, (), text=spoken(ONE)), row.asked(base, ONE))
    numbers = {"picture_levels": levels, "answer": answer}
    kind = f"`{about.architecture}`, {len(base.cross_attentions)} layers"
    good = levels == 0 and answer <= ANSWER
    if row.name in LAYOUTS:
        known, layout = layouts.LAYOUTS, tiny_layout(row.folder, layouts.LAYOUTS[LAYOUTS[row.name]])
        try:
            vars(layouts)["LAYOUTS"] = (layout,)
            file = describe_base(str(save_one_file(row.folder, layout, row.place / "one.safetensors")))
        finally:
            vars(layouts)["LAYOUTS"] = known
        good = good and file.family == about.family
        kind += "; one file of it is the same family" if file.family == about.family else "; ANOTHER family"
    return Cell(f"{kind}; unedited picture {levels:.0f}, packed {short(answer)}", good, numbers)


def covariance(row: Row) -> Cell:
    """C beside the mean over what the stock pipeline encodes, in fp64; padding counts where it is read."""
    base, every = row.base, []
    tokenizer = row.kind.tables(base.pipe)[0][1]
    for caption in CAPTIONS:
        E = row.kind.encoded(base, caption)[0].double()
        every.append(E if base.attends_to_padding else E[: len(tokenizer(caption).input_ids)])
    E = torch.cat(every)
    C = E.T @ E / len(E)
    ours = estimate_covariance(base, CAPTIONS, padding_sample=1)
    off = apart(ours.C, C) / float(C.abs().max())
    text = f"{short(off)} of its largest number; {len(E)} positions"
    return Cell(text, off <= ANSWER and ours.count == len(E), {"relative": off, "positions": len(E)})


def planted(row: Row) -> Cell:
    """A hidden concept makes the targets, and a build finds it."""
    case, place = CASES[row.name], row.place / "planted"
    place.mkdir()
    described = describe_base(str(case.save(place / "base")))
    base = load_base(described, device="cpu", dtype="float32", compute_dtype="float32")
    found = recover(base, case, place)
    least, places = min(found.gradients.values()), len(found.gradients)
    tables = len(base.embedding_tables)
    text = f"{found.left:.1%} of the loss left; gradients at {tables} + {places - tables} places"
    good = found.left < LEFT and least > 0 and places == tables + len(base.cross_attentions)
    return Cell(text, good, {"left": found.left, "least_gradient": least, "places": places})


def edited(called: Sequence[str], lock: str) -> Callable[[Row], Cell]:
    """One prompt's answer and picture beside those of the model that was edited by hand."""

    def cell(row: Row) -> Cell:
        base = row.base
        plain = row.asked(base, called)
        with row.edited(called, lock, order=(0, 1)):
            hand = row.asked(base, called)
        answer, moved = apart(row.answered(base, called, lock), hand), apart(hand, plain)
        picture = row.drawn(base, row.composition(base, called, lock))
        with row.edited(called, lock):
            expected = row.stock(called)
        return _beside(picture, expected, row.stock(called), answer, moved)

    return cell


def residual(row: Row) -> Cell:
    """A picture of two concepts with residuals, each where its word is looked at."""
    picture = row.drawn(row.base, row.composition(row.base, TWO, residual=1.0))
    with row.edited(TWO, residual=1.0):
        expected = row.stock(TWO)
    with row.edited(TWO):
        without = row.stock(TWO)
    return _beside(picture, expected, without)


def thin_form(row: Row) -> Cell:
    """Two concepts under either lock, and with residuals, where each projection makes its own part."""
    base, answers = row.base, []
    plain = row.asked(base, TWO)
    for lock in ("local", "global"):
        with row.edited(TWO, lock, order=(0, 1)):
            hand = row.asked(base, TWO)
        answers.append((apart(row.answered(base, TWO, lock, form="thin"), hand), apart(hand, plain)))
    picture = row.drawn(base, row.composition(base, TWO, residual=1.0), form="thin")
    with row.edited(TWO, residual=1.0):
        expected = row.stock(TWO)
    worst, moved = max(answer for answer, _ in answers), min(edit for _, edit in answers)
    return _beside(picture, expected, row.stock(TWO), worst, moved)


def from_picture(row: Row) -> Cell:
    """A picture drawn from another, with a concept."""
    pixels = np.random.default_rng(7).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(row.place / "start.png")
    start = StartImage.read(row.place / "start.png", None, 0.5)
    picture = row.drawn(row.base, row.composition(row.base, ONE), start)
    how: dict[str, Any] = {"image": Image.fromarray(pixels), "strength": 0.5, "num_inference_steps": 4}
    with row.edited(ONE):
        expected = row.stock(ONE, **how)
    return _beside(picture, expected, row.stock(ONE, **how))


def half(row: Row) -> Cell:
    """The answer in half precision beside that in fp32, and how far the unedited model's own is."""
    texts, good, numbers = [], True, {}
    plain, full = row.asked(row.base, ONE), row.answered(row.base, ONE)
    for dtype in ("bfloat16", "float16"):
        base = row.load(dtype)
        own = relative(row.asked(base, ONE), plain)
        ours = relative(row.answered(base, ONE), full)
        numbers |= {f"{dtype}_unedited": own, f"{dtype}_edited": ours}
        texts.append(f"{dtype} {ours:.1%} (unedited {own:.1%})")
        good = good and ours <= ROUNDING * own
    return Cell("; ".join(texts), good, numbers)


def fake_cuda(row: Row) -> Cell:
    """Estimated, built and drawn where what CUDA refuses is refused, beside the same on the processor."""
    expected = row.drawn(row.base, row.composition(row.base, ONE, residual=1.0))
    with cuda_stand_in():
        there = row.load(device="cuda")
        if not isinstance(there.bank.W, OnCuda):
            return Cell("it is not on the GPU", False)
        C = estimate_covariance(there, CAPTIONS * 10)
        built = row.build(there, C, "teddy")
        composition = row.composition(there, ONE, residual=1.0)
        forms: tuple[Form, ...] = ("packed", "thin")
        pictures = [row.drawn(there, composition, form=form) for form in forms]
    here = row.artifacts["teddy"].tensors
    worst = max(
        apart(tensor.float(), here[name].float()) / float(here[name].abs().max())
        for name, tensor in built.tensors.items()
    )
    levels = max(apart(picture, expected) for picture in pictures)
    numbers = {"build": worst, "picture_levels": levels}
    text = f"built to {short(worst)}, picture to {levels:.0f} of 255 ({BUILD.steps} steps)"
    return Cell(text, worst <= BUILT and levels <= BUILT_LEVELS, numbers)


def full_size(row: Row) -> Cell:
    """The bytes of a concept without a residual on a base of full size."""
    size = FULL_SIZES[row.name]
    bytes_, layers = size.bytes_of(row.artifacts["teddy"]), len(size.layers())
    return Cell(f"{bytes_ / 1000:.0f} KB, {layers} layers", layers > 0, {"bytes": bytes_, "layers": layers})


COLUMNS: dict[str, Callable[[Row], Cell]] = {
    "recognise": recognised,
    "covariance": covariance,
    "planted build": planted,
    "local lock": edited(ONE, "local"),
    "global lock": edited(ONE, "global"),
    "two concepts": edited(TWO, "local"),
    "two, global lock": edited(TWO, "global"),
    "residual": residual,
    "thin form": thin_form,
    "img2img": from_picture,
    "dtype": half,
    "fake CUDA": fake_cuda,
    "full size": full_size,
}
EXPECTED_REFUSALS = {"PixArt-Sigma": ("img2img",)}
"""What an architecture has no pipeline for in diffusers."""


def _beside(
    picture: np.ndarray,
    expected: np.ndarray,
    plain: np.ndarray,
    answer: float | None = None,
    moved: float | None = None,
) -> Cell:
    """A picture, and perhaps the denoiser's answer, beside those of the model edited by hand; and how far the
    edit itself moves either, without which it would say nothing."""
    levels, change = apart(picture, expected), apart(expected, plain)
    numbers = {"picture_levels": levels, "picture_edit": change}
    text, good = f"picture {levels:.0f} (edit {change:.0f})", levels <= LEVELS < change
    if answer is not None and moved is not None:
        numbers |= {"answer": answer, "answer_edit": moved}
        text = f"{short(answer)} (edit {moved:.2f}); {text}"
        good = good and answer <= ANSWER < 1000 * ANSWER < moved
    return Cell(text, good, numbers)


def short(number: float) -> str:
    return f"{number:.0e}" if number else "0"


def apart(one: Any, other: Any) -> float:
    """The largest difference."""
    return float(abs(one - other).max())


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """The difference's norm beside the other's."""
    return float((one - other).norm() / other.norm())
