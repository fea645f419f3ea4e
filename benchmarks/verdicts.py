"""Do verdicts tell good builds from bad ones? Concepts of the embedded base, built and judged, and planted.

    python -m benchmarks.verdicts FOLDER --photos PHOTOS [--limit N] [--only WORD]
    python -m benchmarks.verdicts FOLDER --report

Good: individuals that the base never saw, drawn, each under its own word. Bad: photographs (PHOTOS has a
folder of them for each of `PHOTOGRAPHED`), pictures of another noun, and a training of a few steps. The first
command builds what is missing, N concepts of it, and can be stopped and run again: each concept is a project
in FOLDER, with its pictures, those that its verdict drew and some more. The second reads these alone: rates,
and how many pictures decide.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from perfusion_registry.artifact import Artifact, load_artifact
from perfusion_registry.base import Base, describe_base, load_base
from perfusion_registry.build.framing import square
from perfusion_registry.build.images import load_image
from perfusion_registry.operations.build import BuildOptions, build
from perfusion_registry.operations.compute import ComputeOptions
from perfusion_registry.operations.judging import own_pictures
from perfusion_registry.operations.workspace import Workspace
from perfusion_registry.progress import terminal_reporter
from perfusion_registry.storybook.cast import CAST, reference_images
from perfusion_registry.storybook.judging import WORLD
from perfusion_registry.storybook.world import CATEGORIES, Individual
from perfusion_registry.verdict import judging
from perfusion_registry.verdict.gates import OPEN, widest_elsewhere
from perfusion_registry.verdict.measuring import Attempted, LikenessToOwn, places_of
from perfusion_registry.verdict.subject import Trained

MORE_SEEDS = (2, 3)
"""Drawn of each prompt beside a verdict's own two, under the usual strength: to see how few decide."""
PHOTOGRAPHED = {"bear_plushie": "teddy", "cat": "cat", "dog": "dog", "teapot": "teapot"}
MISTAKEN = {
    "teapot": "teddy",
    "cat": "boat",
    "dog": "chair",
    "boat": "cat",
    "teddy": "pot",
    "chair": "teapot",
    "table": "dog",
    "pot": "table",
}
"""By what pictures show, the word that is said of them."""
FEW_STEPS = 5


@dataclass(frozen=True)
class Case:
    """One concept. shows: who is drawn, or the folder of photographs. steps: None for the base's own."""

    name: str
    kind: str
    word: str
    shows: Individual | str
    steps: int | None = None


def cases() -> list[Case]:
    """Good and bad in turn, so that a run that is stopped has some of each."""
    cast = ("teddy", "teapot", "cat", "dog", "pot", "chair", "boat", "bruno", "snowy", "rosie", "puppy")
    good = [
        Case(f"good-{name}", "good", one.category, one) for name, one in ((name, CAST[name]) for name in cast)
    ]
    rng = Random("verdicts")
    while len(good) < 20:
        one = Individual.sample(rng, CATEGORIES[len(good) % len(CATEGORIES)])
        if one.material is None and one.accessory is None and not one.reading:
            good.append(Case(f"good-{len(good) + 1}", "good", one.category, one))
    photos = [Case(f"photos-{shown}", "photographs", word, shown) for shown, word in PHOTOGRAPHED.items()]
    others = []
    for shown, word in MISTAKEN.items():
        one = Individual.sample(rng, shown)
        one = replace(one, material=None, accessory=None, reading=False)
        others.append(Case(f"other-{shown}-as-{word}", "another noun", word, one))
    few = [
        Case(f"few-{name}", "few steps", CAST[name].category, CAST[name], FEW_STEPS)
        for name in ("teddy", "pot")
    ]
    bad = [case for group in zip(photos, others, others[4:], strict=False) for case in group] + few
    order: list[Case] = []
    for k in range(0, len(good), 2):
        order += [*good[k : k + 2], *bad[k // 2 : k // 2 + 1]]
    return order + bad[len(good) // 2 :]


def prepare(case: Case, folder: Path, photos: Path | None) -> None:
    """The project of a case, with its pictures."""
    recipes = folder / "recipes"
    recipes.mkdir(parents=True, exist_ok=True)
    if isinstance(case.shows, str):
        if photos is None:
            raise SystemExit("photographs are wanted: --photos FOLDER")
        files = sorted((photos / case.shows).iterdir())
        images = torch.stack([square(load_image(file).pixels, (256, 256)) for file in files])
    else:
        images = reference_images(case.shows)
    for k, image in enumerate(images):
        _picture(image).save(recipes / f"{k}.png")
    steps = f"\n[train]\nsteps = {case.steps}\n" if case.steps is not None else ""
    (recipes / f"{case.name}.toml").write_text(
        f'[concept]\nname = "{case.name}"\nversion = "1.0.0"\nsupercategory = "{case.word}"\n'
        f'images = ["*.png"]\n{steps}',
        encoding="utf-8",
    )
    (folder / "perfusion.toml").write_text(
        f'[project]\nname = "verdicts"\nbase = "storybook"\n\n[concepts]\n'
        f'{case.name} = {{ recipe = "recipes/{case.name}.toml" }}\n',
        encoding="utf-8",
    )


@contextmanager
def recorded() -> Iterator[list[tuple[list[Attempted], Tensor]]]:
    """What verdicts measure inside, with their pictures, which no artifact keeps."""
    kept: list[tuple[list[Attempted], Tensor]] = []
    measure = judging.measure

    def recording(*given: Any) -> tuple[list[Attempted], Tensor]:
        kept.append(measure(*given))
        return kept[-1]

    judging.measure = recording
    try:
        yield kept
    finally:
        judging.measure = measure


def run(case: Case, folder: Path, base: Base) -> None:
    """Build it, draw it, and keep what a report needs."""
    begun, used = time.monotonic(), time.process_time()
    with (
        Workspace.open(folder, store=folder / "store", reporter=terminal_reporter()) as workspace,
        recorded() as kept,
    ):
        (row,) = build(workspace, BuildOptions(force=True, compute=ComputeOptions(device="cpu"))).built
        artifact = load_artifact(workspace.store.get(row.sha256))
    took = {"seconds": time.monotonic() - begun, "processor": time.process_time() - used}
    ((attempted, plain),) = kept
    trained = Trained(base, artifact, artifact.card.train)
    templates = places_of(trained.train.validation_prompts)
    drawn = {"own": own_pictures(base, sorted((folder / "recipes").glob("*.png"))), "plain": plain}
    drawn |= {f"drawn {number}": one.pictures for number, one in enumerate(attempted)}
    usual = attempted[0].settings
    more = [trained.drawn(trained.composed(template, usual), MORE_SEEDS) for template in templates]
    drawn["more"] = torch.stack(more)
    plain_more = folder.parent / f"plain-{case.word}.pt"
    if not plain_more.exists():
        more = [trained.drawn(trained.plain(template), MORE_SEEDS) for template in templates]
        torch.save((torch.stack(more) * 255).round().byte(), plain_more)
    torch.save({name: (pixels * 255).round().byte() for name, pixels in drawn.items()}, folder / "drawn.pt")
    assert row.verdict is not None
    facts: dict[str, Any] = {
        "kind": case.kind,
        "word": case.word,
        "verdict": row.verdict.model_dump(mode="json"),
        "failed": row.verdict.failed,
        "scores": row.scores,
        "choices": [dict(one.settings) for one in attempted],
        **{name: round(value, 1) for name, value in took.items()},
    }
    if case.kind == "good":
        facts["padding"] = planted_at_padding(base, artifact)
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def planted_at_padding(base: Base, artifact: Artifact) -> float:
    """The widest gate elsewhere, where the concept answers to what a prompt is padded with."""
    train = artifact.card.train
    word = artifact.card.supercategory
    padding = base.encode([base.tokenise([f"a photo of a {word}"])], length=base.text_length)
    at = padding.states[0, -1].detach().clone()
    tensors = artifact.tensors | {"target_input": at, "target_input_dual": at / (at @ at)}
    planted = Artifact(artifact.card, tensors)
    widest = widest_elsewhere(Trained(base, planted, train), train.templates[:3])
    assert widest is not None
    return round(widest.gate, 3)


def build_missing(folder: Path, photos: Path | None, limit: int, only: str) -> None:
    """Build cases that have no facts yet."""
    missing = [
        case for case in cases() if only in case.name and not (folder / case.name / "facts.json").exists()
    ]
    base = load_base(describe_base("storybook"), device="cpu") if missing[:limit] else None
    for case in missing[:limit]:
        assert base is not None
        prepare(case, folder / case.name, photos)
        run(case, folder / case.name, base)


def likeness(known: Tensor, drawn: Tensor, plain: Tensor) -> float:
    """The share of the way, of features (n, f)."""
    own = (known @ known.T).fill_diagonal_(0).sum() / (len(known) * (len(known) - 1))
    return LikenessToOwn(float((drawn @ known.T).mean()), float((plain @ known.T).mean()), float(own)).share


def report(folder: Path) -> None:
    """What was told of which, and how far eight pictures are from sixteen and four from eight."""
    judge = WORLD.judge("storybook")
    rows, halves, wholes, noise = [], [], [], []
    for path in sorted(folder.glob("*/facts.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        rows.append((path.parent.name, facts))
        drawn = {name: one.float() / 255 for name, one in torch.load(path.parent / "drawn.pt").items()}
        more = torch.load(folder / f"plain-{facts['word']}.pt").float() / 255

        def seen(pictures: Tensor, word: str = facts["word"]) -> Tensor:
            return judge.features(pictures.flatten(0, 1), word)  # (P S, f)

        known = judge.features(drawn["own"], facts["word"])
        one, two = seen(drawn["drawn 0"]), seen(drawn["more"])
        plain, plain_two = seen(drawn["plain"]), seen(more)
        both = likeness(known, torch.cat([one, two]), torch.cat([plain, plain_two]))
        wholes += [abs(likeness(known, one, plain) - both), abs(likeness(known, two, plain_two) - both)]
        halves += [abs(likeness(known, one[k::2], plain[k::2]) - both) for k in (0, 1)]
        noise.append(abs(likeness(known, one, plain) - likeness(known, two, plain_two)))
        verdict, took = facts["verdict"], f"{facts['processor']:.0f} s of processor time"
        values = {name: judged["value"] for name, judged in verdict.items() if isinstance(judged, dict)}
        print(f"{path.parent.name:24} {', '.join(facts['failed']) or 'passes':14} {values} {took}")
    for kind in dict.fromkeys(facts["kind"] for _, facts in rows):
        of = [facts for _, facts in rows if facts["kind"] == kind]
        print(f"{kind}: {sum(bool(facts['failed']) for facts in of)} of {len(of)} told")
    planted = [facts["padding"] for _, facts in rows if "padding" in facts]
    print(f"a gate at the padding: {sum(gate >= OPEN for gate in planted)} of {len(planted)} told")
    for name, values in (("four pictures", halves), ("eight pictures", wholes)):
        print(
            f"{name}: the share is off that of sixteen by {max(values):.3f} at most, mean {mean(values):.3f}"
        )
    print(
        f"two times eight pictures of one strength differ by {max(noise):.3f} at most, mean {mean(noise):.3f}"
    )


def _picture(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).contiguous().numpy())


def main(arguments: Sequence[str] | None = None) -> None:
    """Build what is missing, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--only", default="", help="concepts whose name has this in it")
    parser.add_argument("--report", action="store_true", help="build nothing, and say what was found")
    given = parser.parse_args(arguments)
    if given.report:
        report(given.folder)
        return
    build_missing(given.folder, given.photos, given.limit, given.only)


if __name__ == "__main__":
    main()
