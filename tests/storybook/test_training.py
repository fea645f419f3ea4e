"""The training stages in miniature: they learn, and a run that was stopped goes on where it was."""

import math
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional
from transformers import CLIPTokenizer

from perfusion_registry.base import describe_base
from perfusion_registry.storybook.captions import training_pages
from perfusion_registry.storybook.recogniser import LOOKS, TRAITS, Recogniser
from perfusion_registry.storybook.training.checkpoint import load_checkpoint, save_checkpoint
from perfusion_registry.storybook.training.denoiser import DenoiserPlan, Model, train_denoiser
from perfusion_registry.storybook.training.drawings import draw_shard, read_shards
from perfusion_registry.storybook.training.latents import Latents, encode_shards
from perfusion_registry.storybook.training.locality import TokenCentres
from perfusion_registry.storybook.training.norm import _norm
from perfusion_registry.storybook.training.optimizer import MasterOptimizer
from perfusion_registry.storybook.training.recognition import Lesson, RecogniserPlan, train_recogniser
from perfusion_registry.storybook.training.redrawing import redrawn
from perfusion_registry.storybook.training.schedule import Clock, cosine, plateau
from perfusion_registry.storybook.training.style import sepia
from perfusion_registry.storybook.training.truth import UNTOLD, Truth, recogniser_loss
from perfusion_registry.storybook.training.vocabulary import train_vocabulary
from perfusion_registry.storybook.world import CATEGORIES, Individual, Page, draw_page, paint


@pytest.fixture(scope="module")
def shard_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings")
    draw_shard(folder, 0, count=16)
    return folder


def test_a_shard_is_a_function_of_its_number(shard_folder: Path, tmp_path: Path) -> None:
    draw_shard(tmp_path, 0, count=16)
    draw_shard(tmp_path, 1, count=16)
    (first,), (again, other) = list(read_shards(shard_folder)), list(read_shards(tmp_path))
    assert np.array_equal(first.images, again.images)
    assert first.captions == again.captions
    assert first.captions != other.captions


def test_a_shard_matches_its_pages(shard_folder: Path) -> None:
    (shard,) = read_shards(shard_folder)
    pages = training_pages(Random("storybook 0"))
    for row in range(8):
        page, text = next(pages)
        assert shard.captions[row] == text
        kinds = [CATEGORIES.index(one.category) for one in page.subjects]
        assert [k for k in shard.categories[row] if k >= 0] == kinds
        if page.style is None:
            canvas = paint([draw_page(page)])
            assert np.array_equal(shard.images[row], (canvas.images[0] * 255).round().byte().numpy())


def test_an_unfinished_shard_is_drawn_again(tmp_path: Path) -> None:
    (tmp_path / "0000.images.npy").write_bytes(b"torn")
    draw_shard(tmp_path, 0, count=4)
    assert len(next(read_shards(tmp_path)).images) == 4


def test_maps_are_distributions_of_what_each_cell_shows() -> None:
    owners = torch.zeros(1, 2, 16, 16, dtype=torch.uint8)
    owners[0, 0, :, :4] = 255
    kinds = torch.tensor([[3, -1]], dtype=torch.int8)
    latents = Latents(torch.randn(1, 8, 16, 16).half(), torch.zeros(1, 32, dtype=torch.int16), owners, kinds)
    z, _, cover, maps = latents.batch(16, torch.Generator().manual_seed(0))
    torch.testing.assert_close(maps.sum(1), torch.ones(16, 16, 16))
    for row in range(16):
        assert torch.equal(z[row], latents.z[0].float())
        assert torch.equal(cover[row, 0], owners[0, 0].float() / 255)
        assert torch.equal(maps[row, 4], cover[row, 0])


def test_spread_is_the_share_of_variance_that_tokens_leave_unexplained() -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 6, (400, 8), generator=generator)
    words = torch.randn(6, 5, generator=generator)[ids]
    context = torch.randn(400, 8, 5, generator=generator)
    assert TokenCentres(6, 5).spread(ids, words) < 1e-6
    for share in (0.0, 0.5, 2.0):
        states = words + share * context
        rows = states.flatten(0, 1).double()
        within = sum(
            (rows[ids.flatten() == k] - rows[ids.flatten() == k].mean(0)).square().sum() for k in range(6)
        )
        expected = within / (rows - rows.mean(0)).square().sum()
        spread = float(TokenCentres(6, 5).spread(ids, states))
        assert spread == pytest.approx(float(expected), rel=1e-4, abs=1e-6)


def test_spread_pulls_encodings_together() -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 4, (64, 6))
    states = torch.randn(64, 6, 3, requires_grad=True)
    centres = TokenCentres(4, 3, decay=0.0)
    before = centres.spread(ids, states)
    before.backward()
    assert states.grad is not None
    moved = states.detach() - 20 * states.grad
    assert TokenCentres(4, 3).spread(ids, moved) < before


def test_training_goes_on_from_a_finished_base(tmp_path: Path) -> None:
    tokenizer = train_vocabulary(tmp_path / "tokenizer")
    torch.manual_seed(0)
    finished, other = Model(tokenizer), Model(tokenizer)
    for part in ("unet", "text_encoder"):
        finished.get_submodule(part).save_pretrained(tmp_path / part)
    other.take(tmp_path)
    for part in ("unet", "text_encoder"):
        for a, b in zip(
            finished.get_submodule(part).parameters(), other.get_submodule(part).parameters(), strict=True
        ):
            assert torch.equal(a, b)


def test_fine_tuning_leaves_the_text_encoder_and_so_the_family_alone(
    shard_folder: Path, tmp_path: Path
) -> None:
    base = describe_base("storybook").folder
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    vae = AutoencoderKL.from_pretrained(base / "vae").eval()
    shards = list(read_shards(shard_folder))
    latents = encode_shards(shards, vae, tokenizer, tmp_path / "sepia.pt", style=sepia)
    plain = encode_shards(shards, vae, tokenizer, tmp_path / "plain.pt")
    with torch.no_grad():
        by_hand = vae.encode(sepia(torch.from_numpy(shards[0].images[3:4].copy()).float() / 255) * 2 - 1)
    expected = by_hand.latent_dist.mean * vae.config.scaling_factor
    assert torch.allclose(latents.z[3:4].float(), expected, atol=0.05)
    assert not torch.allclose(latents.z.float(), plain.z.float(), atol=0.5)

    start = Model(tokenizer)
    start.take(base)
    plan = DenoiserPlan(steps=1, batch=4, start=base, text_frozen=True, fused=False)
    tuned = train_denoiser(latents, tokenizer, plan, tmp_path)
    before, after = start.state_dict(), tuned.state_dict()
    text = [name for name in before if name.startswith("text_encoder.")]
    assert text
    assert all(torch.equal(before[name], after[name]) for name in text)
    saved = torch.load(tmp_path / "denoiser.pt", weights_only=True, mmap=True)
    learned = saved["optimizer"]["masters"]
    assert not [name for name in learned if name.startswith("text_encoder.")]
    moved = [n for n, m in learned.items() if n in before and not torch.equal(m, before[n].view_as(m))]
    assert len(moved) > 100


def test_sepia_fades_colours_on_yellowed_paper_dark_towards_the_edges() -> None:
    page = torch.ones(1, 3, 32, 32)
    page[:, :, 12:20, 12:20] = torch.tensor([0.1, 0.8, 0.2])[:, None, None]
    drawn = sepia(page)
    assert drawn.shape == page.shape
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    inside, paper, corner = drawn[0, :, 16, 16], drawn[0, :, 10, 10], drawn[0, :, 0, 0]
    assert int(inside.argmax()) == 1  # green still
    assert float(inside.max() - inside.min()) < 0.7 * (0.8 - 0.1)
    assert paper[0] > paper[1] > paper[2]
    assert float(corner.mean()) < 0.5 * float(paper.mean())


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4))


def run(model: nn.Module, optimizer: MasterOptimizer, steps: range) -> float:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(16, 3, 4, 4, generator=generator)
        loss = functional.cross_entropy(model(x).float(), x.mean((2, 3)).argmax(1))
        loss.backward()
        optimizer.step(1.0, clip=1.0)
    return loss.item()


def test_the_optimiser_learns_and_a_stopped_run_ends_the_same(tmp_path: Path) -> None:
    whole = small_net()
    optimizer = MasterOptimizer(whole, matrix_rate=0.02, rest_rate=0.01)
    before = run(whole, optimizer, range(1))
    after = run(whole, optimizer, range(1, 60))
    assert after < 0.5 * before

    stopped = small_net()
    optimizer = MasterOptimizer(stopped, matrix_rate=0.02, rest_rate=0.01)
    run(stopped, optimizer, range(25))
    save_checkpoint(tmp_path / "c.pt", optimizer, {"step": 25})
    resumed, state = small_net(), {"step": 0}
    optimizer = MasterOptimizer(resumed, matrix_rate=0.02, rest_rate=0.01)
    assert load_checkpoint(tmp_path / "c.pt", optimizer, state)
    run(resumed, optimizer, range(state["step"], 60))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_masters_keep_what_bf16_would_lose() -> None:
    model = nn.Linear(4, 4).to(torch.bfloat16)
    optimizer = MasterOptimizer(model, matrix_rate=1e-5, rest_rate=1e-5)
    before = optimizer.values()[0].clone()
    for _ in range(20):
        model(torch.ones(2, 4, dtype=torch.bfloat16)).sum().backward()
        optimizer.step(1.0)
    assert model.weight.dtype == torch.bfloat16
    assert (optimizer.values()[0] - before).abs().max() > 1e-5


@pytest.mark.parametrize("silu", [False, True])
def test_the_fused_norm_is_group_norm(silu: bool) -> None:
    norm = nn.GroupNorm(4, 16)
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 16, 5, 5, requires_grad=True)
    expected = functional.silu(norm(x)) if silu else norm(x)
    torch.testing.assert_close(_norm(x, norm.weight, norm.bias, 4, norm.eps, silu), expected)


def test_schedules_warm_up_and_end_at_nothing() -> None:
    assert cosine(0.0, 0, warmup=10) == pytest.approx(0.1)
    assert cosine(1.0, 100, warmup=10) == pytest.approx(0.0)
    assert plateau(0.5, 100, warmup=10, decay_from=0.75) == 1.0
    assert plateau(1.0, 100, warmup=10, decay_from=0.75) < 0.01


def test_a_clock_follows_the_budget_that_is_further_spent() -> None:
    assert Clock(100, 50).progress(7) == pytest.approx(0.5, abs=0.01)
    assert Clock(100, 50, steps=10).progress(7) == 0.7
    assert Clock(100, 90, steps=10).progress(7) == pytest.approx(0.9, abs=0.01)
    assert Clock(math.inf, steps=4).progress(1) == 0.25


def test_the_vocabulary_takes_any_text(tmp_path: Path) -> None:
    tokenizer = train_vocabulary(tmp_path)
    for word in (*CATEGORIES, "snow", "gold", "watercolor", "sunglasses"):
        assert len(tokenizer(word).input_ids) == 3, word
    for text in ("Zxqj qüéstion, 42?!", "日本 🙂", "\t tabs\n"):
        ids = tokenizer(text).input_ids
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        assert decoded.replace(" ", "") == "".join(text.lower().split())


@pytest.mark.slow
def test_the_recogniser_learns_what_pages_show() -> None:
    pages = some_pages(12)
    images = paint([draw_page(page) for page in pages], [page.style for page in pages], size=128).images
    truth = Truth.of(pages)
    torch.manual_seed(0)
    model = Recogniser()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(40):
        loss = recogniser_loss(model(images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = model.eval().recognise(images)
    assert ((found.present > 0.5) == (truth.present > 0.5)).float().mean() > 0.97
    looks = truth.traits["look"]
    assert found.look.shape[-1] == len(LOOKS)
    assert (found.look.argmax(-1)[looks >= 0] == looks[looks >= 0]).float().mean() > 0.9
    with torch.no_grad():
        told = model(images).traits
    for name, answers in truth.traits.items():
        seen = answers != UNTOLD
        assert (told[name].argmax(-1)[seen] == answers[seen]).float().mean() > 0.8, name


def test_what_cannot_be_seen_is_not_asked() -> None:
    pot = Individual("pot", "blue", "yellow", "red", "spotted", "white")
    assert pot.traits() == {"look": "blue", "second": "yellow", "pattern": "spotted", "mark": "white"}
    assert replace(pot, material="gold").traits() == {"look": "gold"}
    assert "mark" not in replace(pot, pattern="plain").traits()
    teapot = replace(pot, category="teapot")
    assert teapot.traits()["third"] == "red"
    assert "third" not in teapot.traits(open_lid=True)
    inside = Page((Individual("cat", "grey", "grey", "grey"), teapot), "in", None, None, 3)
    truth = Truth.of([inside, replace(inside, relation="next to")])
    assert truth.traits["third"][:, CATEGORIES.index("teapot")].tolist() == [
        UNTOLD,
        TRAITS["third"].index("red"),
    ]
    assert truth.present.sum(1).tolist() == [2, 2]


@pytest.mark.slow
def test_the_recogniser_goes_on_where_it_was_stopped(shard_folder: Path, tmp_path: Path) -> None:
    (shard,) = read_shards(shard_folder)
    vae = AutoencoderKL.from_pretrained(describe_base("storybook").folder / "vae", torch_dtype=torch.float32)
    images = redrawn(shard, 0, vae, tmp_path / "redrawn")
    assert images.shape == shard.images.shape
    error = np.abs(images.astype(float) - shard.images).mean()
    assert 0.5 < error < 12  # of 255: close, and not the same
    assert np.array_equal(redrawn(shard, 0, vae, tmp_path / "again"), images)
    lessons = [Lesson(shard.images, 0)], [Lesson(images, 0)]
    first = train_recogniser(*lessons, RecogniserPlan(steps=2, batch=8), tmp_path)
    assert torch.load(tmp_path / "recogniser.pt", weights_only=True)["state"]["step"] == 2
    again = train_recogniser(*lessons, RecogniserPlan(steps=2, batch=8), tmp_path)  # nothing is left to do
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())
    longer = train_recogniser(*lessons, RecogniserPlan(steps=3, batch=8), tmp_path)
    assert not torch.equal(longer.whole.weight, first.whole.weight)
    assert torch.load(tmp_path / "recogniser.pt", weights_only=True)["state"]["step"] == 3


def some_pages(count: int) -> list[Page]:
    pages = training_pages(Random(11))
    return [next(pages)[0] for _ in range(count)]


def test_a_saved_recogniser_answers_the_same(tmp_path: Path) -> None:
    model = Recogniser().eval()
    model.save(tmp_path / "recogniser.safetensors")
    again = Recogniser.load(tmp_path / "recogniser.safetensors")
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(
        again.recognise(images).place, model.recognise(images).place, atol=2e-3, rtol=0
    )
