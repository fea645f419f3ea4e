"""The arithmetic of the training against independent references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from perfusion_registry.errors import PerfError
from perfusion_registry.storybook2.training.assembly import scheduler_of
from perfusion_registry.storybook2.training.attention import (
    ATTRIBUTE,
    NOUN,
    PART,
    Probe,
    grounding_loss,
    word_slots,
)
from perfusion_registry.storybook2.training.autoencoder import AutoencoderPlan, new_autoencoder, pictures
from perfusion_registry.storybook2.training.averages import (
    EXPONENTS,
    PowerAverage,
    combination,
    exponent_of,
)
from perfusion_registry.storybook2.training.decoding import Painter, pages_of
from perfusion_registry.storybook2.training.denoiser import (
    SCHEDULER,
    DenoiserPlan,
    Model,
    min_snr,
    noise,
    sampled_times,
)
from perfusion_registry.storybook2.training.encoding import write_encoded
from perfusion_registry.storybook2.training.latents import Admission, Supply, gathered
from perfusion_registry.storybook2.training.linear import fit
from perfusion_registry.storybook2.training.masks import averaged_down
from perfusion_registry.storybook2.training.muon import Muon, orthogonalised
from perfusion_registry.storybook2.training.norm import fuse_norms, unfuse_norms
from perfusion_registry.storybook2.training.parts import join, split
from perfusion_registry.storybook2.training.precision import autocast
from perfusion_registry.storybook2.training.recognition import moved
from perfusion_registry.storybook2.training.seeds import generator, seed_of
from perfusion_registry.storybook2.training.work import Work
from tests.storybook2.learners import SHAPE, denoiser, shard


@pytest.mark.parametrize("shape", [(24, 200), (200, 24), (32, 32), (1, 9)])
def test_muon_keeps_singular_vectors_and_levels_values(shape: tuple[int, int]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, vh = torch.linalg.svd(g.double(), full_matrices=False)
    s = s / s.norm()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert torch.allclose(orthogonalised(g).double(), u @ torch.diag(s) @ vh, atol=2e-4)


def test_muon_steps_as_torchs_does_where_that_is_exact_enough() -> None:
    start = torch.randn(12, 30, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
    a = Muon([ours], **settings)
    b = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    for k in range(4):
        for parameter, optimizer in ((ours, a), (theirs, b)):
            parameter.grad = torch.randn(12, 30, generator=torch.Generator().manual_seed(9 + k))
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved  # torch iterates in bf16


def test_grounding_is_what_a_loop_over_everything_finds() -> None:
    chance = torch.Generator().manual_seed(2)
    batch, tokens, slots = 3, 7, 6
    ground = torch.tensor([[-1, 0, 0, 1, -1, 2, 2], [-1, -1, -1, -1, -1, -1, -1], [0, 1, 1, 5, 5, 0, -1]])
    kind = torch.tensor([[0, ATTRIBUTE, NOUN, NOUN, 0, PART, ATTRIBUTE]] * 3)
    kept = [torch.rand(batch, side**2, tokens, generator=chance).softmax(-1) for side in (16, 8, 4)]
    masks = (torch.rand(batch, slots, 16, 16, generator=chance) > 0.7).float()
    masks[2, 1] = 0.3  # hardly to be seen: it does not count
    for words, wanted in zip(word_slots(ground, kind, slots), (False, True), strict=True):
        losses: list[list[float]] = []
        for layer in kept[:2]:
            side = int(layer.shape[1] ** 0.5)
            found = []
            for b in range(batch):
                for s in range(slots):
                    named = [
                        n
                        for n in range(tokens)
                        if ground[b, n] == s and (int(kind[b, n]) == ATTRIBUTE) is wanted
                    ]
                    if not named or float(masks[b, s].max()) <= 0.5:
                        continue
                    inside = total = 0.0
                    for place in range(side**2):
                        y, x, size = place // side, place % side, 16 // side
                        cover = masks[b, s, y * size : (y + 1) * size, x * size : (x + 1) * size].mean()
                        for n in named:
                            total += float(layer[b, place, n])
                            inside += float(layer[b, place, n]) * float(cover)
                    found.append((1 - inside / total) ** 2)
            losses.append(found)
        loss, share = grounding_loss(kept, words, masks)
        assert len(losses[0]) == (2 if wanted else 5)
        assert float(loss) == pytest.approx(np.mean([np.mean(found) for found in losses]), rel=1e-5)
        roots = [np.mean([1 - np.sqrt(value) for value in found]) for found in losses]
        assert float(share) == pytest.approx(np.mean(roots), rel=1e-5)


def test_grounding_of_a_batch_without_words_is_nothing() -> None:
    kept = [torch.rand(2, 256, 5, requires_grad=True).softmax(-1)]
    loss, share = grounding_loss(kept, torch.zeros(2, 6, 5), torch.ones(2, 6, 16, 16))
    loss.backward()
    assert float(loss.detach()) == float(share) == 0


def test_the_probe_attends_as_the_stock_attention_does() -> None:
    torch.manual_seed(0)
    unet = Model(SHAPE).unet.eval()
    x, t, states = torch.randn(2, 4, 16, 16), torch.tensor([3, 900]), torch.randn(2, 48, 16)
    probe = Probe()
    with torch.no_grad():
        stock = unet(x, t, states)[0]
        unet.set_attn_processor(probe)
        with probe.keeping() as kept:
            ours = unet(x, t, states)[0]
        assert torch.allclose(ours, stock, atol=1e-5)
        unet(x, t, states)
    assert [tuple(layer.shape) for layer in kept].count((2, 256, 48)) == 3
    assert all(torch.allclose(layer.sum(-1), torch.ones(layer.shape[:2]), atol=1e-5) for layer in kept)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_a_power_average_weighs_by_the_power_of_time(exponent: float) -> None:
    values = [{"w": torch.randn(5, generator=torch.Generator().manual_seed(k))} for k in range(1, 201)]
    average = PowerAverage(values[0], exponent)
    for k, value in enumerate(values, 1):
        average.update(value, k)
    edges = np.arange(201) / 200
    shares = np.diff(edges ** (exponent + 1))  # the integrals of the profile over the steps
    wanted = sum(float(share) * value["w"] for share, value in zip(shares, values, strict=True))
    assert torch.allclose(average.values["w"], wanted, atol=1e-5)


def test_snapshots_give_back_an_average_of_another_length() -> None:
    assert exponent_of(0.05) == pytest.approx(16.97, abs=0.01)
    assert exponent_of(0.10) == pytest.approx(6.94, abs=0.01)
    path = torch.cumsum(torch.randn(2000, 8, generator=torch.Generator().manual_seed(3)), 0) / 40
    averages = [PowerAverage({"w": path[0]}, exponent) for exponent in EXPONENTS]
    wanted = PowerAverage({"w": path[0]}, exponent_of(0.075))
    snapshots: list[tuple[int, float, Tensor]] = []
    for k in range(1, 2001):
        for average in (*averages, wanted):
            average.update({"w": path[k - 1]}, k)
        if k % 200 == 0:
            snapshots += [(k, a.exponent, a.values["w"].clone()) for a in averages]
    shares = combination([s[0] for s in snapshots], [s[1] for s in snapshots], 2000, exponent_of(0.075))
    mixed = sum(float(share) * s[2] for share, s in zip(shares, snapshots, strict=True))
    nearest = min(float((a.values["w"] - wanted.values["w"]).norm()) for a in averages)
    assert shares.sum() == pytest.approx(1, abs=0.01)
    assert float((mixed - wanted.values["w"]).norm()) < 0.1 * nearest


def test_v_and_noise_are_what_the_stock_scheduler_says() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(**SCHEDULER)
    z, t = torch.randn(4, 4, 16, 16), torch.tensor([0, 100, 900, 999])
    noised = noise(z, t, scheduler.alphas_cumprod, generator("test"))
    extra = torch.randn(z.shape, generator=generator("test"))
    assert torch.allclose(noised.x, scheduler.add_noise(z, extra, t), atol=1e-5)
    assert torch.allclose(noised.v, scheduler.get_velocity(z, extra, t), atol=1e-5)
    assert torch.allclose(noised.x[3], extra[3])  # the last step is noise alone
    snr = noised.alpha / (1 - noised.alpha)
    assert torch.allclose(min_snr(noised.alpha), torch.minimum(snr + 1, torch.tensor(5.0)) / (snr + 1))


@pytest.mark.parametrize("times", ["uniform", "logit-normal"])
def test_times_are_spread_evenly_over_a_batch(times: str) -> None:
    rng = np.random.default_rng(0)
    plan = DenoiserPlan(batch=100, times=times)
    drawn = torch.stack([sampled_times(plan, rng).sort().values for _ in range(50)]).float()
    assert drawn.min() >= 0
    assert drawn.max() <= 999
    assert float(drawn.std(0)[10:90].max()) < 12  # each draw has one of every hundredth
    middling = ((drawn > 300) & (drawn < 700)).float().mean()
    assert float(middling) == pytest.approx(0.4 if times == "uniform" else 0.603, abs=0.02)


def test_more_times_may_lie_where_shapes_are_decided() -> None:
    rng = np.random.default_rng(0)
    plan = DenoiserPlan(batch=48, times="logit-normal", logit_mean=0.9, logit_std=0.8, uniform=0.25)
    drawn = torch.stack([sampled_times(plan, rng) for _ in range(200)])
    for low, high in ((0, 200), (500, 850), (850, 1000)):
        ends = torch.logit(torch.tensor([low, high], dtype=torch.float64) / 1000)
        normal = torch.distributions.Normal(0.9, 0.8).cdf(ends).diff()
        share = ((drawn >= low) & (drawn < high)).float().mean()
        assert float(share) == pytest.approx(0.25 * (high - low) / 1000 + 0.75 * float(normal), abs=0.01)


def test_more_shards_are_taken_up_by_pages_alone() -> None:
    asked: set[int] = set()

    def known(number: int):  # type: ignore[no-untyped-def]
        asked.add(number)
        return shard(number)

    supply = Supply(known, Admission(first=2, uses=2.0, most=4))
    supply.batch(4, 1999, np.random.default_rng(0))
    assert asked == {0, 1}
    supply.batch(4, 2000, np.random.default_rng(0))
    assert asked == {0, 1, 2}
    supply.batch(4, 10**7, np.random.default_rng(0))
    assert asked == {0, 1, 2, 3}


def test_pages_are_gathered_from_their_own_shards() -> None:
    shards = [shard(0, 3), shard(1, 4)]
    batch = gathered(shards, np.array([6, 0, 3]), np.array([2, 0, 1]))
    for row, (s, r, w) in enumerate(((1, 3, 2), (0, 0, 0), (1, 0, 1))):
        assert np.array_equal(batch.z[row].numpy(), shards[s].z[r].astype(np.float32))
        assert np.array_equal(batch.ids[row].numpy(), shards[s].ids[r, w])
        assert np.array_equal(batch.ground[row].numpy(), shards[s].ground[r, w])
        assert np.array_equal((batch.slots[row] * 255).round().numpy(), shards[s].slots[r])


def test_a_dropped_caption_grounds_nothing_and_a_step_learns() -> None:
    learner = denoiser(drop_caption=1.0)
    before = learner.model.unet.conv_in.weight.detach().clone()
    found = learner.step(0, 0, 1.0)
    assert found["noun"] == found["attribute"] == 0
    assert not torch.equal(before, learner.model.unet.conv_in.weight)


def test_pictures_are_crops_on_the_latents_grid() -> None:
    page = np.arange(64 * 64 * 3, dtype=np.int64).reshape(64, 64, 3) % 251
    pages = np.stack([page, 250 - page]).astype(np.uint8)
    plan = AutoencoderPlan(batch=2, crop=32)
    x = pictures([pages], plan, np.random.default_rng(0), crops=True)
    assert x.shape == (8, 3, 32, 32)
    for crop in ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy():
        places = [
            (k, top, left)
            for k in range(2)
            for top in (0, 16, 32)
            for left in (0, 16, 32)
            if np.array_equal(crop, pages[k, top : top + 32, left : left + 32])
        ]
        assert len(places) == 1
    assert pictures([pages], plan, np.random.default_rng(0), crops=False).shape == (2, 3, 64, 64)


def test_fused_norms_change_nothing_but_time() -> None:
    torch.manual_seed(0)
    block = ResnetBlock2D(in_channels=8, temb_channels=None, groups=4).eval()
    x = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        stock = block(x, None)
        fuse_norms(block)
        assert type(block.norm1) is not torch.nn.GroupNorm
        assert torch.allclose(block(x, None), stock, atol=1e-5)
        unfuse_norms(block)
        assert torch.equal(block(x, None), stock)


def test_the_stock_encoder_computes_the_linear_transform() -> None:
    plan = AutoencoderPlan(widths=(8, 12, 32, 32, 48), channels=8)
    pages = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    pages[:, :32] //= 4  # so that there is something to tell
    encoder = fit(pages, plan.widths, plan.channels)
    vae = new_autoencoder(encoder, plan)
    x = torch.from_numpy(pages).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        posterior = vae.encode(x).latent_dist
    assert posterior.mean.shape == (4, 8, 4, 4)
    assert torch.allclose(posterior.mean, encoder.encode(x), atol=1e-3)
    assert float(posterior.std.max()) < 1e-3
    assert torch.allclose(encoder.encode(x).std((0, 2, 3)), encoder.deviations, rtol=0.02)
    assert abs(float(encoder.encode(x).std()) * encoder.scale - 1) < 0.02


def test_the_linear_transform_loses_the_least() -> None:
    """Of one level there is the best answer: the singular vectors of all cells."""
    pages = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    pages[:, ::2] //= 3
    x = torch.from_numpy(pages).permute(0, 3, 1, 2).float() / 127.5 - 1
    cells = torch.nn.functional.pixel_unshuffle(x, 2).permute(0, 2, 3, 1).reshape(-1, 12)
    lost = torch.linalg.svdvals(cells - cells.mean(0))
    for channels in (3, 7, 12):
        encoder = fit(pages, (12, 24), channels)
        error = encoder.decode(encoder.encode(x)) - x
        assert float((error**2).sum()) == pytest.approx(float((lost[channels:] ** 2).sum()), abs=1e-3)


def test_masks_are_averaged_over_areas() -> None:
    masks = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8)
    small = averaged_down(masks, 4)
    assert small.shape == (2, 3, 2, 2)
    assert small[1, 2, 0, 1] == round(float(masks[1, 2, :4, 4:].mean()))


def test_chance_follows_from_names() -> None:
    assert seed_of("a", 1) == seed_of("a", 1) != seed_of("a", 2)
    assert torch.equal(torch.rand(3, generator=generator("x", 1)), torch.rand(3, generator=generator("x", 1)))


def test_parts_make_the_file_again_and_nothing_else_does(tmp_path: Path) -> None:
    whole = tmp_path / "state.tar"
    whole.write_bytes(np.random.default_rng(0).bytes(1000))
    written = split(whole, tmp_path / "parts", largest=300)
    assert [path.stat().st_size for path in written[:-1]] == [300, 300, 300, 100]
    again = join(tmp_path / "parts", tmp_path / "again")
    assert again.read_bytes() == whole.read_bytes()
    part = tmp_path / "parts" / "state.tar.001"
    part.write_bytes(part.read_bytes()[::-1])
    with pytest.raises(PerfError, match="not the one that the list tells of"):
        join(tmp_path / "parts", tmp_path / "torn")
    assert not (tmp_path / "torn" / "state.tar").exists()
    part.unlink()
    with pytest.raises(PerfError, match="a part is missing"):
        join(tmp_path / "parts", tmp_path / "torn")


class Chances:
    """Numbers that are known: for the zoom of pages first, for their shifts then."""

    def __init__(self, *values: object) -> None:
        self.values = [np.asarray(value, np.float64) for value in values]

    def uniform(self, low: float, high: float, shape: object) -> np.ndarray:
        return self.values.pop(0)


def test_pages_and_their_masks_move_together() -> None:
    chance = generator("moved")
    x, masks = torch.rand(2, 3, 128, 128, generator=chance), torch.rand(2, 2, 16, 16, generator=chance)
    still = moved(x, masks, np.random.default_rng(0), zoom=0, shift=0)
    assert torch.allclose(still[0], x, atol=1e-5)
    assert torch.allclose(still[1], masks, atol=1e-5)
    # One page a cell to the left and two up; the other drawn half as large about its middle.
    chances = Chances([0, 1], [[1, 2], [0, 0]])
    seen, shown = moved(x, masks, chances, zoom=1, shift=1 / 16)  # type: ignore[arg-type]
    assert torch.allclose(seen[0, :, :-16, :-8], x[0, :, 16:, 8:], atol=1e-4)
    assert torch.allclose(seen[0, :, -16:, :-8], x[0, :, -1:, 8:].expand(-1, 16, -1), atol=1e-4)
    assert torch.allclose(shown[0, :, :-2, :-1], masks[0, :, 2:, 1:], atol=1e-4)
    assert not shown[0, :, -2:].any()
    assert not shown[0, :, :, -1:].any()
    middle = shown[1, :, 4:12, 4:12]
    assert torch.allclose(middle, masks[1].unfold(1, 2, 2).unfold(2, 2, 2).mean((-2, -1)), atol=1e-4)
    assert not shown[1, :, :3].any()
    inside = seen[1, :, 32:96, 32:96]
    assert torch.allclose(inside, x[1].unfold(1, 2, 2).unfold(2, 2, 2).mean((-2, -1)), atol=1e-4)


def test_pages_are_repainted_as_diffusers_ddim_would() -> None:
    """Each page from a time of its own, with guidance: the last prediction of the clean latents."""
    torch.manual_seed(0)
    model = Model(SHAPE).eval().requires_grad_(False)
    scheduler = DDIMScheduler(**SCHEDULER)
    empty, ids, z = torch.full((48,), 49), torch.randint(0, 48, (2, 48)), torch.randn(2, 4, 16, 16)
    painter = Painter(model, scheduler.alphas_cumprod, empty)
    torch.manual_seed(1)
    found = painter.repainted(z, ids, torch.tensor([600, 300]), steps=3, guidance=2.5)
    torch.manual_seed(1)
    noise = torch.randn_like(z)
    for k, (time, steps) in enumerate(((600, 5), (300, 10))):
        scheduler.set_timesteps(steps)
        x = scheduler.add_noise(z[k : k + 1], noise[k : k + 1], torch.tensor(time))
        for now in (time, time * 2 // 3, time // 3):
            with autocast("cpu"):
                plain = model(x, torch.tensor(now), empty[None])[0].float()
                told = model(x, torch.tensor(now), ids[k : k + 1])[0].float()
            step = scheduler.step(plain + 2.5 * (told - plain), now, x)
            x = step.prev_sample
        assert torch.allclose(found[k], step.pred_original_sample[0], atol=1e-4)


def test_the_decoder_sees_each_picture_with_its_own_latents(tmp_path: Path) -> None:
    """Where the pictures or the latents of some shard are gone, that shard is left out."""
    work = Work(tmp_path)
    for number in (0, 2, 3):
        write_encoded(work.latents / f"{number:06d}", shard(number))
    for number in (1, 2, 3):
        (work.drawings / f"{number:06d}").mkdir(parents=True)
        np.save(work.drawings / f"{number:06d}" / "images.npy", np.full((5, 1, 1, 3), number, np.uint8))
    pictures, latents = pages_of(work, range(4))
    assert [int(picture[0, 0, 0, 0]) for picture in pictures] == [2, 3]
    assert all(np.array_equal(found.z, shard(k).z) for found, k in zip(latents, (2, 3), strict=True))


def test_both_samplers_take_clean_latents_from_a_denoiser_that_knows_them() -> None:
    """Whatever noise the stochastic one adds: of exact predictions the same latents come."""
    torch.manual_seed(0)
    clean = torch.randn(2, 4, 16, 16)
    alphas = DDIMScheduler(**SCHEDULER).alphas_cumprod
    for sampler in ("ddim", "sde"):
        scheduler = scheduler_of(sampler)
        scheduler.set_timesteps(25)
        x = torch.randn_like(clean)
        chance = torch.Generator().manual_seed(1)
        for time in scheduler.timesteps:
            alpha = alphas[time]
            noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
            v = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
            x = scheduler.step(v, time, x, generator=chance).prev_sample
        assert torch.allclose(x, clean, atol=2e-3), sampler
