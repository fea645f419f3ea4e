"""Packed encodings against a float64 numpy transcription of the paper, layer by layer."""

import copy

import numpy as np
import pytest
import torch

from perfusion_registry import edit
from perfusion_registry.base import describe_base, load_base
from perfusion_registry.compose.checking import SettingSources
from perfusion_registry.compose.composing import compose
from perfusion_registry.compose.contributing import targets
from perfusion_registry.compose.encoding import encodings
from perfusion_registry.compose.packing import pack
from perfusion_registry.compose.prompt import parse_prompt
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.gate import Gate
from tests.compose.samples import artifact, concepts_of, covariance, on
from tests.tiny import fine_tuned

PROMPT = "A teddy*{bias=.55} sailing in a teapot*{temperature=.3} on the sea"


def reference_encoding(base, text, embeddings):
    """Encode `text` (supercategory words in place) in float64, each word of `embeddings` with its own vector.

    The vectors are written into a copy of the embedding table, so a word must not occur for itself beside.
    """
    tokenizer = base.pipe.tokenizer
    encoder = copy.deepcopy(base.text_encoder).double()
    table = encoder.get_input_embeddings().weight
    for word, vector in embeddings.items():
        (token,) = tokenizer(word, add_special_tokens=False).input_ids
        table.data[token] = vector.double()
    ids = tokenizer(text, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
    with torch.no_grad():
        return encoder(ids.input_ids)[0][0].numpy()  # (n, d)


def supercategory_encoding(base, word):
    """e of `word`, the last word of "a photo of a <word>": start token, four words, then it."""
    return reference_encoding(base, f"a photo of a {word}", {})[5]


def paper_layer(E, W, C, concepts):
    """Eq. 4 for one layer, exactly as Appendix B has it: Cholesky of C^-1, QR, u_j = L^-T u~_j.

    E: (n, d). W: (width, d). concepts: list of (i, o, bias, temperature). Returns (n, width).
    """
    Cinv = np.linalg.inv(C)
    h = np.zeros((len(E), len(W)))
    L = np.linalg.cholesky(Cinv)
    whitened = np.stack([L.T @ i for i, _, _, _ in concepts], axis=1)  # (d, J)
    basis, _ = np.linalg.qr(whitened)
    U = np.linalg.inv(L.T) @ basis  # (d, J), u_j in its columns
    for m, e in enumerate(E):
        e_perp = e - sum(u * (u @ Cinv @ e) for u in U.T)
        h[m] = W @ e_perp
        for i, o, bias, temperature in concepts:
            similarity = (i @ Cinv @ e) / (i @ Cinv @ i)
            h[m] += o / (1 + np.exp(-(similarity - bias) / temperature))
    return h


def layers_of(base):
    """The projections of every cross-attention layer as the UNet has them, not as the bank does."""
    found = {}
    for path, module in base.pipe.unet.named_modules():
        if path.endswith("attn2"):
            found[path] = (
                module.to_k.weight.detach().double().numpy(),
                module.to_v.weight.detach().double().numpy(),
            )
    return found


def check_against_paper(base, packed, expected):
    """expected: layer path -> (K (n, width), V (n, width))."""
    assert {layer.path for layer in base.bank.layers} == set(expected)
    for layer in base.bank.layers:
        K, V = expected[layer.path]
        np.testing.assert_allclose(packed[:, layer.key_slice], K, rtol=1e-4, atol=2e-4 * np.abs(K).max())
        np.testing.assert_allclose(packed[:, layer.value_slice], V, rtol=1e-4, atol=2e-4 * np.abs(V).max())


def target_of(base, composition, name, path, artifacts):
    """(i, o_K, o_V, bias, temperature) of one concept in one layer."""
    concept, tensors = composition.concept(name), artifacts[name].tensors
    if concept.render.key_lock == "none":
        o_K = tensors[f"output_key.{path}"].double().numpy()
    else:
        o_K = layers_of(base)[path][0] @ supercategory_encoding(base, concept.supercategory)
    i, o_V = tensors["target_input"].double().numpy(), tensors[f"output.{path}"].double().numpy()
    return i, o_K, o_V, concept.render.bias, concept.render.temperature


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("A photo of a teddy*", "A photo of a teddy"),
        (PROMPT, "A teddy sailing in a teapot on the sea"),
        ("a cat*{bias=.4} and a teapot* by the fire", "a cat and a teapot by the fire"),
    ],
    ids=["one", "two", "trained keys"],
)
def test_packing_is_equation_4(tiny_base, concepts, prompt, text):
    composition = compose(parse_prompt(prompt), concepts, tiny_base)
    artifacts = on(concepts)
    names = [c.name for c in composition.concepts]
    C = covariance(tiny_base.bank.W.shape[1])
    E = reference_encoding(tiny_base, text, {n: artifacts[n].tensors["embedding"] for n in names})
    expected = {}
    for path, (W_K, W_V) in layers_of(tiny_base).items():
        found = [target_of(tiny_base, composition, name, path, artifacts) for name in names]
        expected[path] = (
            paper_layer(E, W_K, C, [(i, o_K, b, t) for i, o_K, _, b, t in found]),
            paper_layer(E, W_V, C, [(i, o_V, b, t) for i, _, o_V, b, t in found]),
        )
    check_against_paper(tiny_base, pack(tiny_base, composition, artifacts).states[0].numpy(), expected)


def test_a_concept_transfers_to_a_fine_tuned_base_by_that_bases_own_keys(
    tiny_base, tiny_base_folder, concepts, tmp_path
):
    """Section 6.2: the same artifact; what it is locked to is what the fine-tuned base makes of the word."""
    folder = fine_tuned(tiny_base_folder, tmp_path / "tuned")
    tuned = load_base(describe_base(str(folder)), device="cpu", dtype="float32", compute_dtype="float32")
    assert tuned.description.family == tiny_base.description.family
    artifacts = on(concepts)
    composition = compose(parse_prompt("a teddy* in the snow"), concepts, tuned)
    E = reference_encoding(tuned, "a teddy in the snow", {"teddy": artifacts["teddy"].tensors["embedding"]})
    C = covariance(tuned.bank.W.shape[1])
    expected = {}
    for path, (W_K, W_V) in layers_of(tuned).items():
        i, o_K, o_V, bias, temperature = target_of(tuned, composition, "teddy", path, artifacts)
        expected[path] = (
            paper_layer(E, W_K, C, [(i, o_K, bias, temperature)]),
            paper_layer(E, W_V, C, [(i, o_V, bias, temperature)]),
        )
    packed = pack(tuned, composition, artifacts).states[0]
    check_against_paper(tuned, packed.numpy(), expected)
    plain = pack(
        tiny_base, compose(parse_prompt("a teddy* in the snow"), concepts, tiny_base), artifacts
    ).states[0]
    assert not torch.allclose(packed, plain, atol=0.1)


def test_one_concept_is_equation_3(tiny_base, concepts):
    """Algorithm 1's forward pass, whose W e_perp is written without any basis."""
    composition = compose(parse_prompt("a teddy* in the snow"), concepts, tiny_base)
    artifacts = on(concepts)
    E = reference_encoding(
        tiny_base, "a teddy in the snow", {"teddy": artifacts["teddy"].tensors["embedding"]}
    )
    Cinv = np.linalg.inv(covariance(tiny_base.bank.W.shape[1]))
    expected = {}
    for path, weights in layers_of(tiny_base).items():
        i, o_K, o_V, bias, temperature = target_of(tiny_base, composition, "teddy", path, artifacts)
        energy = (Cinv @ i) @ i
        sim = E @ (Cinv @ i)
        sigmoid_term = 1 / (1 + np.exp(-(sim / energy - bias) / temperature))
        expected[path] = tuple(
            E @ W.T - np.outer(sim, W @ i) / energy + np.outer(sigmoid_term, o)
            for W, o in zip(weights, (o_K, o_V), strict=True)
        )
    check_against_paper(tiny_base, pack(tiny_base, composition, artifacts).states[0].numpy(), expected)


def test_global_lock_is_appendix_c(tiny_base, concepts):
    """K of the supercategory prompt, unedited; V as under the local lock."""
    prompt = parse_prompt(PROMPT)
    command = SettingSources(command_all=Gate(bias=0.65, key_lock="global"))
    composition = compose(prompt, concepts, tiny_base, command)
    packed = pack(tiny_base, composition, on(concepts)).states[0]
    local = pack(tiny_base, compose(prompt, concepts, tiny_base), on(concepts)).states[0]
    keys = tiny_base.bank.key_columns
    assert torch.equal(packed[:, ~keys], local[:, ~keys])
    E = reference_encoding(tiny_base, "A teddy sailing in a teapot on the sea", {})
    for layer in tiny_base.bank.layers:
        K = E @ layers_of(tiny_base)[layer.path][0].T
        np.testing.assert_allclose(packed[:, layer.key_slice], K, rtol=1e-4, atol=1e-4 * np.abs(K).max())


def test_mixed_locks_edit_the_keys_for_the_local_concepts_only(tiny_base, concepts):
    prompt = parse_prompt("A teddy*{lock=global,bias=.65} sailing in a teapot*")
    composition = compose(prompt, concepts, tiny_base)
    artifacts = on(concepts)
    packed = pack(tiny_base, composition, artifacts).states[0]
    E = reference_encoding(
        tiny_base, "A teddy sailing in a teapot", {"teapot": artifacts["teapot"].tensors["embedding"]}
    )
    C = covariance(tiny_base.bank.W.shape[1])
    for layer in tiny_base.bank.layers:
        W_K = layers_of(tiny_base)[layer.path][0]
        i, o_K, _, bias, temperature = target_of(tiny_base, composition, "teapot", layer.path, artifacts)
        K = paper_layer(E, W_K, C, [(i, o_K, bias, temperature)])
        np.testing.assert_allclose(packed[:, layer.key_slice], K, rtol=1e-4, atol=2e-4 * np.abs(K).max())
    local = pack(
        tiny_base, compose(parse_prompt("A teddy* sailing in a teapot*"), concepts, tiny_base), artifacts
    )
    values = ~tiny_base.bank.key_columns
    assert torch.equal(packed[:, values], local.states[0][:, values])


def test_all_three_locks_share_a_prompt(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy*{lock=global} a teapot* a cat*"), concepts, tiny_base)
    assert [c.render.key_lock for c in composition.concepts] == ["global", "local", "none"]
    artifacts, C = on(concepts), covariance(tiny_base.bank.W.shape[1])
    own = {name: artifacts[name].tensors["embedding"] for name in ("teddy", "teapot", "cat")}
    text = "a teddy a teapot a cat"
    E = reference_encoding(tiny_base, text, own)
    E_key = reference_encoding(tiny_base, text, {name: own[name] for name in ("teapot", "cat")})
    expected = {}
    for path, (W_K, W_V) in layers_of(tiny_base).items():
        found = [target_of(tiny_base, composition, name, path, artifacts) for name in own]
        expected[path] = (
            paper_layer(E_key, W_K, C, [(i, o_K, b, t) for i, o_K, _, b, t in found[1:]]),
            paper_layer(E, W_V, C, [(i, o_V, b, t) for i, _, o_V, b, t in found]),
        )
    check_against_paper(tiny_base, pack(tiny_base, composition, artifacts).states[0].numpy(), expected)


@pytest.fixture(scope="module")
def jug(tiny_base, concepts):
    """teddy*, and jug*, whose supercategory is two tokens."""
    return {"teddy": concepts["teddy"], **concepts_of(artifact(tiny_base, "jug", "glass teapot", 5))}


def test_under_a_global_lock_several_tokens_line_up_by_the_last(tiny_base, jug):
    """By hand: the keys of `glass` go, those of `teapot` are the jug's, and the rest moves up by one."""
    composition = compose(parse_prompt("A jug*{lock=global} and a teddy* on the sea"), jug, tiny_base)
    assert [c.positions for c in composition.concepts] == [(2,), (5,)]
    artifacts, C = on(jug), covariance(tiny_base.bank.W.shape[1])
    own = {name: artifacts[name].tensors["embedding"] for name in jug}
    E = reference_encoding(
        tiny_base, "A hat and a teddy on the sea", {"hat": own["jug"], "teddy": own["teddy"]}
    )
    spelled = reference_encoding(tiny_base, "A glass teapot and a teddy on the sea", {"teddy": own["teddy"]})
    E_key = np.concatenate([spelled[:2], spelled[3:], spelled[-1:]])
    expected = {}
    for path, (W_K, W_V) in layers_of(tiny_base).items():
        teddy, other = (target_of(tiny_base, composition, name, path, artifacts) for name in ("teddy", "jug"))
        i, o_K, _, bias, temperature = teddy
        expected[path] = (
            paper_layer(E_key, W_K, C, [(i, o_K, bias, temperature)]),
            paper_layer(E, W_V, C, [(i, o_V, b, t) for i, _, o_V, b, t in (other, teddy)]),
        )
    check_against_paper(tiny_base, pack(tiny_base, composition, artifacts).states[0].numpy(), expected)


def test_under_a_local_lock_several_tokens_have_the_keys_of_the_last(tiny_base, jug):
    composition = compose(parse_prompt("a jug*"), jug, tiny_base)
    outputs = targets(tiny_base, composition, on(jug)).O[0]
    e = reference_encoding(tiny_base, "a photo of a glass teapot", {})[6]
    for layer in tiny_base.bank.layers:
        K = layers_of(tiny_base)[layer.path][0] @ e
        np.testing.assert_allclose(outputs[layer.key_slice], K, rtol=1e-4, atol=1e-4 * np.abs(K).max())


def test_a_prompt_of_before_that_spelling_makes_too_long_is_refused(tiny_base, jug):
    """It is cut; one of today goes on in another chunk (`test_chunks`)."""
    prompt = parse_prompt("a jug*" + " in snow" * 36 + " red", plain=True)
    pack(tiny_base, compose(prompt, jug, tiny_base), on(jug))
    composition = compose(prompt, jug, tiny_base, SettingSources(command_all=Gate(key_lock="global")))
    with pytest.raises(PerfError, match=r"too long for a global lock.* lost: red"):
        pack(tiny_base, composition, on(jug))


def test_the_order_of_concepts_changes_nothing(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy* a teapot* a cat*"), concepts, tiny_base)
    turned = composition.model_copy(update={"concepts": composition.concepts[::-1]})
    one, other = (pack(tiny_base, c, on(concepts)).states for c in (composition, turned))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert not torch.equal(
        targets(tiny_base, composition, on(concepts)).I, targets(tiny_base, turned, on(concepts)).I
    )


def test_the_negative_prompt_goes_through_the_edit(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy* in the snow"), concepts, tiny_base)
    both = pack(tiny_base, composition, on(concepts), [composition.parsed, parse_prompt("a blue hat")]).states
    torch.testing.assert_close(
        both[:1], pack(tiny_base, composition, on(concepts)).states, rtol=1e-4, atol=1e-4
    )
    E = torch.from_numpy(reference_encoding(tiny_base, "a blue hat", {})).float()
    t = targets(tiny_base, composition, on(concepts))
    expected = edit.packed(E, tiny_base.bank.W, t.I, t.V, t.O, t.bias, t.temperature)
    torch.testing.assert_close(both[1], expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(both[1], E @ tiny_base.bank.W.T, atol=1e-2)


def test_a_concept_called_twice_opens_at_both_places(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy* on a teddy*"), concepts, tiny_base)
    assert composition.concepts[0].positions == (2, 5)
    _, E = encodings(tiny_base, composition, on(concepts))
    expected = reference_encoding(
        tiny_base, "a teddy on a teddy", {"teddy": concepts["teddy"].artifact.tensors["embedding"]}
    )
    np.testing.assert_allclose(E.states[0].numpy(), expected, atol=1e-4)


def test_the_supercategory_itself_keeps_its_own_word(tiny_base, concepts):
    """`a teddy* on a teddy`: only the called one has the learned embedding."""
    composition = compose(parse_prompt("a teddy* on a teddy"), concepts, tiny_base)
    _, E = encodings(tiny_base, composition, on(concepts))
    _, twice = encodings(
        tiny_base, compose(parse_prompt("a teddy* on a teddy*"), concepts, tiny_base), on(concepts)
    )
    assert torch.allclose(E.states[0, :5], twice.states[0, :5], atol=1e-6)
    assert not torch.allclose(E.states[0, 5], twice.states[0, 5], atol=1e-3)


def test_an_artifact_of_another_build_is_refused(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy*"), concepts, tiny_base)
    with pytest.raises(PerfError, match="another build"):
        pack(tiny_base, composition, {"teddy": concepts["teapot"].artifact})
    with pytest.raises(PerfError, match="not at hand"):
        pack(tiny_base, composition, {})


def test_an_artifact_that_lacks_a_layer_is_refused(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy*"), concepts, tiny_base)
    broken = copy.deepcopy(concepts["teddy"].artifact)
    path = tiny_base.bank.layers[3].path
    broken.tensors[f"output.{path}"] = broken.tensors[f"output.{path}"][:-1]
    with pytest.raises(PerfError, match="does not fit this base"):
        pack(tiny_base, composition, {"teddy": broken})


def test_positions_of_another_tokenizer_are_refused(tiny_base, concepts):
    composition = compose(parse_prompt("a teddy* in snow"), concepts, tiny_base)
    moved = composition.concepts[0].model_copy(update={"positions": (4,)})
    with pytest.raises(PerfError, match="token 4"):
        pack(tiny_base, composition.model_copy(update={"concepts": (moved,)}), on(concepts))


def test_packing_leaves_the_base_as_it_was(tiny_base, concepts):
    before = {key: value.clone() for key, value in tiny_base.text_encoder.state_dict().items()}
    pack(tiny_base, compose(parse_prompt(PROMPT), concepts, tiny_base), on(concepts))
    after = tiny_base.text_encoder.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
