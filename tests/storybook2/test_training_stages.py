"""The whole training in its smallest form: from drawings to the folder that ships, and to another machine."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel, CLIPSegForImageSegmentation, CLIPTokenizer

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.recogniser import Recogniser
from perfusion_registry.storybook2.training import __main__ as command
from perfusion_registry.storybook2.training import lent
from perfusion_registry.storybook2.training.attention import NOUN
from perfusion_registry.storybook2.training.denoiser import averaged
from perfusion_registry.storybook2.training.drawings import (
    HELD_BACK,
    check_epoch,
    draw_shard,
    drawn,
    page_of,
    read_drawing,
)
from perfusion_registry.storybook2.training.encoding import latents_of, tokenised
from perfusion_registry.storybook2.training.latents import read_encoded
from perfusion_registry.storybook2.training.linear import load as load_encoder
from perfusion_registry.storybook2.training.loop import load
from perfusion_registry.storybook2.training.masks import averaged_down
from perfusion_registry.storybook2.training.painting import chosen, new_learner, sheet
from perfusion_registry.storybook2.training.plan import Plan, changed, read_plan
from perfusion_registry.storybook2.training.prompts import PROMPTS
from perfusion_registry.storybook2.training.questions import KINDS
from perfusion_registry.storybook2.training.state import save_state
from perfusion_registry.storybook2.training.truth import LABELS
from perfusion_registry.storybook2.training.work import Work

pytestmark = pytest.mark.slow
PAGES = 6
SETTINGS = (
    f"budgets.shard={PAGES}", "budgets.pictured=1", "budgets.redrawn=1", "budgets.read=2",
    "budgets.autoencoder=2", "budgets.autoencoder_fall=2", "autoencoder.widths=[8,8,8,8,16]",
    "autoencoder.channels=4", "autoencoder.batch=1", "autoencoder.crop=64", "autoencoder.fused=false",
    "budgets.decoder=1", "budgets.decoder_fall=1",
    "budgets.recogniser=4", "budgets.recogniser_fall=4", "recogniser.batch=4",
    "budgets.clip=4", "budgets.clip_fall=4", "clip.batch=4", "clip.width=16", "clip.size=24",
    "budgets.segmenter=4", "budgets.segmenter_fall=4", "segmenter.batch=4", "segmenter.width=16",
    "segmenter.size=32", "segmenter.reduced=16",
    "budgets.denoiser=16", "budgets.denoiser_fall=8", "denoiser.batch=4",
    "denoiser.widths=[16,16]", "denoiser.fused=false",
    "denoiser.average_every=1", "admission.first=1", "admission.uses=0.008", "admission.most=2",
    "machine.threads=1", "machine.workers=1", "machine.burst=1",
    "budgets.measure_every=8", "budgets.sheet_every=1000000", "budgets.snapshot_every=8",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _no_way_is_given() -> Iterator[None]:
    """The command is the nicest of all processes from then on, and the tests that follow are not to be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.nice", lambda _: 0)
        yield


def perform(work: Path, *arguments: str) -> None:
    assert command.main([str(work), *arguments]) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder in which every stage has run."""
    torch.set_num_threads(1)
    work = tmp_path_factory.mktemp("work")
    perform(work, "freeze", "--set", *SETTINGS[:9], "--set", *SETTINGS[9:])
    perform(work, "run")
    perform(work, "stage", "decoder", "clip", "segmenter")
    return work


def test_the_recogniser_learns_from_shards_that_keep_small_pictures(trained: Path) -> None:
    read = read_drawing(trained / "small" / "000001")
    again = drawn(1, PAGES)
    assert read.wordings == again.wordings
    assert read.images.shape == (PAGES, 128, 128, 3)
    means = again.images.reshape(PAGES, 128, 2, 128, 2, 3).mean((2, 4))
    assert np.abs(read.images - means).max() <= 0.5
    assert np.abs(read.slots().astype(float) - averaged_down(again.masks, 4)).max() <= 1
    assert not (trained / "small" / "000000").exists()


def test_a_shard_is_the_same_in_every_process_and_appears_whole(tmp_path: Path) -> None:
    folder = draw_shard(tmp_path, 3, count=2)
    again = drawn(3, 2)
    read = read_drawing(folder)
    assert np.array_equal(read.images, again.images)
    assert np.array_equal(read.masks, again.masks)
    assert read.wordings == again.wordings
    assert [p.name for p in tmp_path.iterdir()] == ["000003"]
    page, _ = page_of(3, 1)
    whole = page.draw()
    assert np.array_equal(read.images[1], whole.image)
    small = read.slots()[1].astype(float)
    assert np.abs(small - whole.slot_masks().reshape(6, 16, 16, 16, 16).mean((2, 4))).max() <= 1


def test_pages_of_another_epoch_are_not_gone_on_with(tmp_path: Path) -> None:
    check_epoch(tmp_path)
    check_epoch(tmp_path)
    (tmp_path / "epoch.txt").write_text("0")
    with pytest.raises(PerfError, match="pages of epoch 0 are there"):
        check_epoch(tmp_path)


def test_every_stage_leaves_its_result(trained: Path) -> None:
    work = Work(trained)
    assert {p.name for p in work.drawings.iterdir()} == {"epoch.txt", "000000", f"{HELD_BACK:06d}"}
    assert {p.name for p in work.latents.iterdir()} == {"epoch.txt", "000000", "000001", f"{HELD_BACK:06d}"}
    rows = [json.loads(line) for line in (trained / "measured.jsonl").read_text().splitlines()]
    assert [row["pages"] for row in rows] == [8, 16]
    assert all(0 < row["v"] < 5 for row in rows)
    told = json.loads((trained / "recogniser.json").read_text())
    assert told.keys() == {"on pages", "through the autoencoder"}
    assert {"nouns", "imagined", "relation", *LABELS.traits, *LABELS.wholes} == told["on pages"].keys()
    log = (trained / "log.txt").read_text()
    assert "all stages done: decoder clip segmenter" in log


def test_a_fall_is_carried_elsewhere_and_goes_on_there(trained: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(trained, here)
    perform(here, "stage", "denoiser-fall")
    perform(here, "save-weights", str(tmp_path / "parts"))
    perform(there, "load-weights", str(tmp_path / "parts"))
    assert not (there / "denoiser-fp16.pt").exists()
    assert (there / "denoiser-fall.from").read_text() == "16"
    carried = torch.load(there / "denoiser-fall-fp16.pt", weights_only=True)["weights"]
    for name, value in torch.load(here / "denoiser-fall.pt", weights_only=True)["learner"]["weights"].items():
        assert torch.equal(carried[name], value.half()), name
    shutil.copytree(here / "latents", there / "latents")
    perform(there, "stage", "denoiser")  # as every morning's `resume` does: nothing begins from nothing
    perform(there, "freeze", "--set", "budgets.denoiser_fall=12")
    perform(there, "stage", "denoiser-fall")
    for folder, pages in ((here, 24), (there, 28)):
        saved = torch.load(folder / "denoiser-fall.pt", weights_only=True)
        assert saved["progress"]["pages"] == pages
    assert not (there / "denoiser.pt").exists()
    # Of what was carried while its rate was constant, the fall begins there as well.
    late, plateau = tmp_path / "late", Work(trained)
    save_state(plateau, tmp_path / "before")
    perform(late, "load-weights", str(tmp_path / "before"))
    shutil.copytree(here / "latents", late / "latents")
    perform(late, "stage", "denoiser-fall")
    assert (late / "denoiser-fall.from").read_text() == "16"
    taken = chosen(Work(there)).state_dict()  # whichever errs least on held-back pages
    (line,) = (line for line in (there / "log.txt").read_text().splitlines() if "by average" in line)
    errors = dict(re.findall(r"(longer|shorter|none) (\d+\.\d+)", line))
    least = min(errors, key=lambda name: float(errors[name]))
    assert line.endswith(f"taking {least}")
    which = {"longer": 0, "shorter": 1, "none": None}[least]
    assert all(
        torch.equal(taken[k], v) for k, v in averaged(saved["learner"], which=which).state_dict().items()
    )


def test_an_encoded_shard_is_what_the_pages_say(trained: Path) -> None:
    work = Work(trained)
    shard, drawing = read_encoded(work.latents / "000000"), drawn(0, PAGES)
    vae = AutoencoderKL.from_pretrained(work.vae)
    tokenizer = CLIPTokenizer.from_pretrained(work.tokenizer)
    assert np.array_equal(shard.slots, drawing.slots())
    x = torch.from_numpy(drawing.images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(x).latent_dist.mean * vae.config.scaling_factor
    assert np.allclose(shard.z, mean.numpy(), atol=2e-2)
    assert abs(latents_of(load_encoder(work.encoder), drawing.images).std() - 1) < 0.2
    found = 0
    for page, wordings in enumerate(drawing.wordings):
        for word, wording in enumerate(wordings):
            for start, end, slot, kind in wording.spans:
                at = shard.ground[page, word] == slot
                own = at & (shard.kind[page, word] == kind)
                said = tokenizer.decode(shard.ids[page, word][own].tolist())
                assert "".join(wording.text[start:end].lower().split()) in "".join(said.split())
                found += kind == NOUN
    assert found >= PAGES


def test_a_token_belongs_to_the_span_that_it_lies_in(trained: Path) -> None:
    from perfusion_registry.storybook2.training.drawings import Wording

    tokenizer = CLIPTokenizer.from_pretrained(Work(trained).tokenizer)
    text = "A Xylophonist's  blue CUP"
    spans = ((2, 13, 0, 0), (17, 21, 1, 2), (22, 25, 1, 0))
    ids, ground, kind = tokenised(tokenizer, [Wording(text, spans), Wording("", ())])
    assert tokenizer.decode(ids[0][ground[0] == 0].tolist()).strip() == "xylophonist"
    assert tokenizer.decode(ids[0][(ground[0] == 1) & (kind[0] == 2)].tolist()).strip() == "blue"
    assert tokenizer.decode(ids[0][(ground[0] == 1) & (kind[0] == 0)].tolist()).strip() == "cup"
    assert (ground[1] == -1).all()


def test_what_is_exported_opens_with_the_stock_classes(trained: Path, tmp_path: Path) -> None:
    perform(trained, "export", str(tmp_path / "base"))
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "base", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red cup", num_inference_steps=1, output_type="np").images[0]
    assert image.shape == (256, 256, 3)
    assert pipe.tokenizer.model_max_length == 48
    CLIPModel.from_pretrained(tmp_path / "base" / "clip")
    CLIPSegForImageSegmentation.from_pretrained(tmp_path / "base" / "segmenter")
    recogniser = Recogniser.load(tmp_path / "base" / "recogniser.safetensors", LABELS)
    about = recogniser.describe(torch.rand(2, 3, 256, 256), "cup")
    assert torch.allclose(about.norm(dim=-1), torch.ones(2))
    perform(trained, "export", str(tmp_path / "other"), "--deviation", "0.075")
    unet = StableDiffusionPipeline.from_pretrained(tmp_path / "other").unet
    assert not torch.equal(unet.conv_in.weight, pipe.unet.conv_in.weight)


def test_the_decoder_learns_and_the_latents_stay(trained: Path) -> None:
    before, after = (AutoencoderKL.from_pretrained(trained / name) for name in ("vae", "vae-decoder"))
    assert before.config.scaling_factor == after.config.scaling_factor
    for name, tensor in before.encoder.state_dict().items():
        assert torch.equal(tensor, after.encoder.state_dict()[name]), name
    assert not torch.equal(before.decoder.conv_in.weight, after.decoder.conv_in.weight)
    assert not (trained / "decoder-denoiser.pt").exists()


def test_the_state_goes_to_another_machine_and_comes_back(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfusion_registry.storybook2.training.lent._LEAST", 0.5)
    plan_of = lent.lent_plan

    def on_one_thread(*told: Any, **how: Any) -> Plan:
        plan = plan_of(*told, **how)
        return replace(plan, machine=replace(plan.machine, threads=1))  # two wait for each other here

    monkeypatch.setattr(lent, "lent_plan", on_one_thread)
    here = Path(shutil.copytree(trained, tmp_path / "here"))
    perform(here, "freeze", "--set", "budgets.denoiser=1000000000")
    perform(here, "save-weights", str(tmp_path / "state"))
    assert max(p.stat().st_size for p in (tmp_path / "state").iterdir()) < 16 * 2**20
    there = tmp_path / "there"
    perform(
        there, "lent", "--state", str(tmp_path / "state"), "--out", str(tmp_path / "back"),
        "--seconds", "1", "--reserve", "0",
    )  # fmt: skip
    perform(tmp_path / "home", "load-weights", str(tmp_path / "back"))
    saved = [torch.load(p / "denoiser-fp16.pt", weights_only=True) for p in (there, tmp_path / "home")]
    assert saved[0]["progress"]["pages"] == 16
    assert saved[1]["progress"]["pages"] > 16
    moved = saved[1]["weights"]["unet.conv_in.weight"] - saved[0]["weights"]["unet.conv_in.weight"]
    assert moved.abs().max() > 0
    assert command.main([str(there), "load-weights", str(tmp_path / "back")]) == 2


def test_a_base_is_measured(trained: Path, tmp_path: Path) -> None:
    here = Path(shutil.copytree(trained, tmp_path / "here"))
    perform(here, "freeze", "--set", "measure.pictures=2", "measure.steps=1")
    perform(here, "measure")
    rows = json.loads((here / "measure.json").read_text())
    assert rows.keys() == {*KINDS, "everyday", "exchange", "key swap"}
    for kind, row in rows.items():
        if kind == "exchange":
            assert 0 <= row["moved"] <= row["counted"] <= 2
            continue
        if kind == "key swap":
            assert 0 <= max(row["value"], row["key"]) <= row["counted"] <= 2
            continue
        for shares in row.values():
            assert shares.keys() >= ({"all"} if kind == "everyday" else {"things", "place", "colours"})
            assert all(share["low"] <= share["share"] <= share["high"] for share in shares.values())
        assert (here / "sheets" / f"measure-{kind.replace(' ', '-')}.png").exists()


def test_a_sheet_shows_its_prompts(trained: Path) -> None:
    work = Work(trained)
    learner = new_learner(work, read_plan(work), None)
    load(work.checkpoint("denoiser"), learner)
    path = sheet(work, learner, "test", PROMPTS[:2], steps=1)
    with Image.open(path) as image:
        assert image.size == (8 * 262, 302)
        pixels = np.asarray(image)
    assert pixels[:256, :256].std() > 1
    assert (pixels[:256, 2 * 262 :] == 255).all()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["denoiser.batch"], "sets nothing"),
        (["denoiser.bath=3"], "sets nothing"),
        (["denoiser.batch=many"], "denoiser.batch: Input should be a valid integer"),
    ],
)
def test_a_wrong_setting_is_named(settings: Sequence[str], said: str) -> None:
    with pytest.raises(PerfError, match=said):
        changed(Plan(), settings)


def test_stages_without_what_they_need_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["export", str(tmp_path / "x")], ["resume"], ["sheet"], ["pause"],
        ["load-weights", str(tmp_path)], ["lent", "--out", str(tmp_path / "x")],
    ):  # fmt: skip
        assert command.main([str(tmp_path / "empty"), *arguments]) == 2
        assert capsys.readouterr().err.startswith("error: ")
