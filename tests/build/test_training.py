"""Training: one step against the paper by hand in float64, learning, mirrors, and the same bytes every
time."""

from __future__ import annotations

import copy
import dataclasses
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from perfusion_registry.artifact import Artifact, load_artifact, save_artifact
from perfusion_registry.base import Base, block_widths, describe_base, load_base
from perfusion_registry.build import ConceptSources, Covariance, build_concept, estimate_covariance
from perfusion_registry.build.latents import encode_latents
from perfusion_registry.build.training import TrainInputs, repeatable, step_loss, train, training_step
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.key_lock import KeyLock
from perfusion_registry.methods.perfusion.options import RenderOptions, TrainOptions
from perfusion_registry.methods.perfusion.tensors import offsets, output_keys
from perfusion_registry.methods.prompts import Prompts
from perfusion_registry.methods.residuals.tensors import residual_of
from perfusion_registry.methods.table import find_method
from perfusion_registry.reporter import Silent
from tests import forked
from tests.build.test_covariance import captions

SCORES = {"image", "text", "harmonic", "image_plain", "image_self"}
FAST = TrainOptions(
    steps=4,
    batch=2,
    validate_every=2,
    validation_steps=2,
    validation_prompts=("a photo of a {}", "a {} in the snow"),
    mask="none",
)


def picture(seed: int = 0) -> Image.Image:
    """Coarse coloured noise: nothing in it is symmetric."""
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)
    return Image.fromarray(noise).resize((64, 64), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def covariance(tiny_base: Base) -> Covariance:
    return estimate_covariance(tiny_base, captions(200))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(2):
        picture(seed).save(folder / f"{seed}.png")
    return tuple(sorted(folder.iterdir()))


def inputs_of(base: Base, covariance: Covariance, options: TrainOptions, word: str = "teddy") -> TrainInputs:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(2, 3, 64, 64, generator=generator)
    masks = torch.rand(2, 1, 64, 64, generator=generator)
    latents = encode_latents(base, pixels, masks, flip=options.flip)
    prompts = Prompts.of(base, options.templates, word)
    make = find_method("perfusion").trainable
    return TrainInputs(base, word, covariance.metric(), prompts, latents, options, make)


class EditedLinear(nn.Module):
    """Algorithm 1 of the paper for one projection, in plain matrices."""

    def __init__(self, W: Tensor, inverse: Tensor, i: Tensor, o: Tensor, options: TrainOptions) -> None:
        super().__init__()
        self.W, self.inverse, self.i, self.o, self.options = W, inverse, i, o, options

    def forward(self, e: Tensor) -> Tensor:
        v = self.inverse @ self.i
        energy = v @ self.i
        sim = e @ v  # (B, n)
        sigmoid = torch.sigmoid((sim / energy - self.options.bias) / self.options.temperature)
        return e @ self.W.T - (sim / energy)[..., None] * (self.W @ self.i) + sigmoid[..., None] * self.o


@pytest.mark.parametrize("trained_keys", [False, True])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_one_step_has_the_gradient_of_the_paper(
    tiny_base: Base, covariance: Covariance, trained_keys: bool, prediction: str
) -> None:
    options = FAST.model_copy(update={"trained_keys": trained_keys})
    pipe = copy.copy(tiny_base.pipe)
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=prediction)
    pipe.unet = copy.deepcopy(pipe.unet).double()  # the law is the step's, not that of float32 convolutions
    base = dataclasses.replace(tiny_base, pipe=pipe, dtype=torch.float64, compute_dtype=torch.float64)
    inputs = inputs_of(base, covariance, options)
    state = inputs.begin()
    with base.attached():
        loss = step_loss(inputs, state)
        loss.backward()

    # The same step by hand: float64, every layer edited on its own, the whole batch encoded prompt by prompt.
    dice, B = torch.Generator().manual_seed(options.seed), options.batch
    shape = (B, *inputs.latents.mean.shape[1:])
    pictures = torch.randint(4, (B,), generator=dice)
    templates = torch.randint(len(options.templates), (B,), generator=dice)
    t = torch.randint(1000, (B,), generator=dice)
    posterior, noise = (
        torch.randn(shape, generator=dice).double(),
        torch.randn(shape, generator=dice).double(),
    )
    z = inputs.latents.mean[pictures].double() + inputs.latents.std[pictures].double() * posterior
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    a = (1 - beta).cumprod(0)[t][:, None, None, None]
    noisy = a.sqrt() * z + (1 - a).sqrt() * noise
    wanted = noise if prediction == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * z

    encoder = copy.deepcopy(base.text_encoder).double()
    unet = copy.deepcopy(base.pipe.unet).double()
    tokenizer = base.pipe.tokenizer

    def ids(template: str) -> Tensor:
        row = tokenizer(template.format("teddy"), padding="max_length", max_length=77, return_tensors="pt")
        return row.input_ids[0]

    rows = torch.stack([ids(options.templates[k]) for k in templates.tolist()])
    token = int(tokenizer("teddy").input_ids[1])
    at = (rows == token).int().argmax(1)
    table = encoder.get_input_embeddings()
    embedding = table.weight[token].detach().clone().requires_grad_()
    hook = table.register_forward_hook(
        lambda module, inputs, output: torch.where((inputs[0] == token)[..., None], embedding, output)
    )
    E = encoder(rows).last_hidden_state
    hook.remove()
    with torch.no_grad():
        start = encoder(ids("a photo of a {}")[None]).last_hidden_state[0, 5]
    i = 0.99 * start + 0.01 * E[torch.arange(B), at].detach().mean(0)
    C = covariance.C
    inverse = torch.linalg.inv(C + 0.01 * C.diagonal().mean() * torch.eye(32, dtype=torch.float64))
    learned: list[Tensor] = []
    for layer in base.bank.layers:
        attention = unet.get_submodule(layer.path)
        for side in ("to_k", "to_v"):
            W = getattr(attention, side).weight
            o = (W @ start).detach()
            if side == "to_v" or trained_keys:
                learned.append(o.requires_grad_())
            setattr(attention, side, EditedLinear(W, inverse, i, o, options))
    answer = unet(noisy, t, E).sample
    weight = inputs.latents.weight[pictures].double()
    by_hand = (weight * (answer - wanted) ** 2).mean()
    by_hand.backward()

    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert torch.allclose(state.concept.moving["target_input"].double(), i, atol=1e-6)
    outputs = torch.cat([o.grad for o in learned if o.grad is not None])
    for got, expected in (
        (state.concept.parameters["outputs"].grad, outputs),
        (state.concept.parameters["embedding"].grad, embedding.grad),
    ):
        assert got is not None
        assert expected is not None
        assert got.shape == expected.shape
        assert (
            float((got.double() - expected).norm() / expected.norm()) < 1e-3
        )  # encodings are float32, and C^-1 amplifies their rounding


def test_the_weights_sum_over_the_mask_alone(tiny_base: Base, covariance: Covariance) -> None:
    """A picture that differs outside the mask gives the same loss only if the mask really is applied."""
    inputs = inputs_of(tiny_base, covariance, FAST)
    half = inputs.latents.weight.clone()
    half[..., 4:] = 0
    with tiny_base.attached(), torch.no_grad():
        whole = [
            float(step_loss(dataclasses.replace(inputs, latents=latents), inputs.begin()))
            for weight in (half, half * 0.5)
            for latents in [dataclasses.replace(inputs.latents, weight=weight)]
        ]
    assert whole[1] == pytest.approx(whole[0] / 2, rel=1e-5)


def test_training_learns_and_touches_nothing_but_the_concept(tiny_base: Base, covariance: Covariance) -> None:
    """With the same dice at every step, a random UNet can be talked into a lower loss through o*_V alone."""
    options = FAST.model_copy(update={"learning_rate_output": 1.0, "learning_rate_embedding": 0.06})
    inputs = inputs_of(tiny_base, covariance, options)
    weights = {name: value.clone() for name, value in tiny_base.pipe.unet.state_dict().items()}
    state = inputs.begin()
    dice = state.generator.get_state()
    with tiny_base.attached():
        for _ in range(30):
            state.generator.set_state(dice)
            training_step(inputs, state)
    assert min(state.losses) < 0.95 * state.losses[0]
    assert all(torch.equal(value, weights[name]) for name, value in tiny_base.pipe.unet.state_dict().items())
    keys = tiny_base.bank.key_columns
    lock = KeyLock.to(tiny_base, "teddy", trained_keys=False)
    o = lock.target_output(state.concept.parameters["outputs"])
    assert torch.equal(o[keys], lock.outputs[keys])
    assert not torch.isclose(o[~keys], lock.outputs[~keys]).any()


def test_flips_are_encodings_of_mirror_images_with_mirrored_masks(tiny_base: Base) -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 1, 64, 64)
    masks[..., :24] = 0.5
    both = encode_latents(tiny_base, pixels, masks, flip=True)
    plain = encode_latents(tiny_base, pixels, masks, flip=False)
    mirrored = encode_latents(tiny_base, pixels.flip(-1), masks.flip(-1), flip=False)
    assert len(plain.mean) == 2
    assert torch.equal(both.mean, torch.cat([plain.mean, mirrored.mean]))
    assert not torch.allclose(mirrored.mean, plain.mean.flip(-1), atol=1e-3)
    assert torch.equal(both.weight[2:], both.weight[:2].flip(-1))
    assert both.weight.amax((1, 2, 3)).tolist() == [1] * 4
    assert both.weight[0, 0, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_latents_are_what_the_vae_says(tiny_base: Base) -> None:
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = encode_latents(tiny_base, pixels, torch.ones(1, 1, 64, 64), flip=False)
    with torch.no_grad():
        posterior = tiny_base.pipe.vae.encode(pixels * 2 - 1).latent_dist
    scale = tiny_base.pipe.vae.config.scaling_factor
    torch.testing.assert_close(latents.mean, posterior.mean * scale)
    torch.testing.assert_close(latents.std, posterior.std * scale)
    noise = torch.ones_like(latents.mean)
    torch.testing.assert_close(latents.sample(noise), (posterior.mean + posterior.std) * scale)


def build(base: Base, covariance: Covariance, photos: tuple[Path, ...], **changes: object) -> Artifact:
    options = FAST.model_copy(update=changes)
    sources = ConceptSources("hugsy", "1.0.0", "teddy", photos)
    return build_concept(base, covariance, sources, options, RenderOptions(), digest="ab" * 32)


def test_the_same_recipe_gives_the_same_bytes(
    tiny_base: Base, covariance: Covariance, photos: tuple[Path, ...]
) -> None:
    first = save_artifact(build(tiny_base, covariance, photos))
    torch.manual_seed(99)  # nothing may come from the global dice
    assert save_artifact(build(tiny_base, covariance, photos)) == first
    assert save_artifact(build(tiny_base, covariance, photos, seed=1)) != first
    artifact = load_artifact(first)
    assert set(offsets(artifact.tensors)) == {layer.path for layer in tiny_base.bank.layers}
    assert artifact.card.steps_kept in {2, 4}
    assert set(artifact.card.scores) == SCORES


def test_a_residual_is_learned_beside_the_concept_and_chosen_with_it(
    tiny_base: Base, covariance: Covariance, photos: tuple[Path, ...]
) -> None:
    options: dict[str, object] = {"residual_rank": 0.1, "learning_rate_residual": 0.01}
    first = save_artifact(build(tiny_base, covariance, photos, **options))
    torch.manual_seed(99)
    assert save_artifact(build(tiny_base, covariance, photos, **options)) == first
    residual = residual_of(load_artifact(first).tensors)
    widths = block_widths(tiny_base.residual_blocks)
    assert {path: (b.shape[0], a.shape[1]) for path, (a, b) in residual.items()} == widths
    assert all(a.shape[0] == max(1, round(0.1 * a.shape[1])) for a, _ in residual.values())
    assert all(float(b.abs().sum()) > 0 for _, b in residual.values())
    # Without its own learning rates there is the residual alone, and B starts at zero.
    still = build(
        tiny_base, covariance, photos, **options, learning_rate_output=0.0, learning_rate_embedding=0.0
    )
    start = KeyLock.to(tiny_base, "teddy", trained_keys=False)
    assert torch.equal(still.tensors["embedding"], start.embeddings[0])
    assert all(float(b.abs().sum()) > 0 for _, b in residual_of(still.tensors).values())
    inputs = inputs_of(tiny_base, covariance, FAST.model_copy(update=options))
    assert all(
        float(b.detach().abs().sum()) == 0 for _, b in residual_of(inputs.begin().concept.parameters).values()
    )


def test_a_supercategory_of_several_tokens_is_read_to_its_last(
    tiny_base: Base, covariance: Covariance, photos: tuple[Path, ...]
) -> None:
    word, text = "glass teapot", "a photo of a glass teapot"
    ids = tiny_base.pipe.tokenizer(text, padding="max_length", max_length=77, return_tensors="pt").input_ids
    lock = KeyLock.to(tiny_base, word, trained_keys=False)
    table = tiny_base.text_encoder.get_input_embeddings().weight
    torch.testing.assert_close(lock.embeddings[0], (table[ids[0, 5]] + table[ids[0, 6]]) / 2)
    with torch.no_grad():
        torch.testing.assert_close(lock.encoding, tiny_base.text_encoder(ids)[0][0, 6])

    class Heard(Silent):
        def warn(self, text: str) -> None:
            warnings.append(text)

    warnings: list[str] = []
    options = FAST.model_copy(update={"steps": 1, "mask": "attention"})
    sources = ConceptSources("jug", "1.0.0", word, photos)
    artifact = build_concept(
        tiny_base, covariance, sources, options, RenderOptions(), digest="ab" * 32, reporter=Heard()
    )
    assert artifact.card.supercategory == word
    assert any("'glass teapot' as glass + teapot" in told for told in warnings)
    assert set(artifact.card.scores) == SCORES
    nearby = artifact.tensors["target_input"] - lock.encoding
    assert float(nearby.norm() / lock.encoding.norm()) < 0.05  # one step of the moving average


def test_what_keys_are_locked_to_is_rounded_as_one_product(tiny_base: Base) -> None:
    """All that is learned begins there: other sums would be another artifact of the same recipe."""
    for word in ("teddy", "cat", "boat"):
        lock = KeyLock.to(tiny_base, word, trained_keys=False)
        assert torch.equal(lock.outputs, tiny_base.bank.W @ lock.encoding)


def test_without_a_scorer_the_last_step_is_kept(
    tiny_base: Base, covariance: Covariance, photos: tuple[Path, ...]
) -> None:
    artifact = build(dataclasses.replace(tiny_base, scorer=None), covariance, photos, trained_keys=True)
    assert artifact.card.steps_kept == 4
    assert artifact.card.scores == {}
    assert set(output_keys(artifact.tensors)) == set(offsets(artifact.tensors))


KILLED = """
import os, sys
from pathlib import Path
from perfusion_registry.artifact import save_artifact
from tests.build.test_training import slow_build
os.environ["PERF_CHECKPOINT_SECONDS"] = "0"
Path(sys.argv[4]).write_bytes(save_artifact(slow_build(*map(Path, sys.argv[1:4]), sys.argv[5])))
"""


SLOW = {
    "perfusion": FAST.model_copy(update={"steps": 12, "validate_every": 5, "residual_rank": 0.05}),
    "dreambooth": find_method("dreambooth").tables["train"](
        steps=12,
        validate_every=5,
        validation_steps=1,
        validation_prompts=("a photo of a {}",),
        text_encoder=True,
        prior_pictures=2,
        rank=4,
        max_grad_norm=1.0,
    ),
}


def slow_build(
    folder: Path, photos: Path, workspace: Path, method: str = "perfusion", **more: Any
) -> Artifact:
    base = load_base(describe_base(str(folder)), device="cpu", dtype="float32", compute_dtype="float32")
    sources = ConceptSources("hugsy", "1.0.0", "teddy", tuple(sorted(photos.iterdir())), method=method)
    C = torch.diag(torch.linspace(1, 2, 32, dtype=torch.float64))
    from perfusion_registry.build.covariance import CovarianceCard

    return build_concept(
        base,
        Covariance(C, CovarianceCard()),
        sources,
        SLOW[method],
        find_method(method).tables["render"](),
        digest="ab" * 32,
        workspace=workspace,
        **more,
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", SLOW)
def test_a_killed_build_resumes_to_the_same_bytes(
    tiny_base_folder: Path, photos: tuple[Path, ...], tmp_path: Path, method: str
) -> None:
    workspace, out = tmp_path / "work", tmp_path / "artifact"
    places = (tiny_base_folder, photos[0].parent, workspace, out)
    command = [sys.executable, "-c", KILLED, *map(str, places), method]
    checkpoint = workspace / "training.safetensors"
    process = forked.Popen(command, cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    assert not out.exists()
    resumed = slow_build(tiny_base_folder, photos[0].parent, workspace, method)
    whole = slow_build(tiny_base_folder, photos[0].parent, tmp_path / "elsewhere", method)
    assert save_artifact(resumed) == save_artifact(whole)


def test_a_checkpoint_of_another_training_is_not_continued(
    tiny_base: Base, covariance: Covariance, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "c"
    train(inputs_of(tiny_base, covariance, FAST), checkpoint=checkpoint)
    other = inputs_of(tiny_base, covariance, FAST.model_copy(update={"seed": 5}))
    begun = other.begin()
    assert not begun.resume(checkpoint, other.identity(begun.concept))
    same = inputs_of(tiny_base, covariance, FAST)
    identity = same.identity(same.begin().concept)
    assert same.begin().resume(checkpoint, identity)
    told: list[str] = []
    heard = Silent()
    heard.note = told.append  # type: ignore[method-assign]
    train(same, checkpoint=checkpoint, reporter=heard)
    assert told == [f"training goes on after step {FAST.steps} of {FAST.steps}, where it was interrupted"]
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    assert not same.begin().resume(checkpoint, identity)


def test_a_diverging_training_says_what_to_do(tiny_base: Base, covariance: Covariance) -> None:
    inputs = inputs_of(tiny_base, covariance, FAST)
    state = inputs.begin()
    with torch.no_grad():
        state.concept.parameters["outputs"].fill_(float("inf"))
    with tiny_base.attached(), pytest.raises(PerfError, match="step 1") as caught:
        training_step(inputs, state)
    assert "learning rates" in (caught.value.hint or "")


def test_sums_over_the_same_prompt_do_not_depend_on_the_threads_luck() -> None:
    """A batch's prompts repeat, and gradients of the repeated ones are added up: `packed[inverse]`."""
    dice = torch.Generator().manual_seed(0)
    rows = torch.randint(3, (64,), generator=dice)
    upstream = torch.randn(64, 24, 500, generator=dice)
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(4)
    try:
        with repeatable(torch.device("cpu")):
            seen = set()
            for _ in range(20):
                h = torch.zeros(3, 24, 500, requires_grad=True)
                h[rows].backward(upstream)
                assert h.grad is not None
                seen.add(h.grad.numpy().tobytes())
    finally:
        torch.set_num_threads(threads)
    assert len(seen) == 1
    assert torch.are_deterministic_algorithms_enabled() == before
