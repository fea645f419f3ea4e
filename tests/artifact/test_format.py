from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load, save

from perfusion_registry.artifact import Artifact, card_fields, load_artifact, read_card, save_artifact
from perfusion_registry.errors import PerfError
from perfusion_registry.methods.perfusion.options import TrainOptions
from perfusion_registry.methods.perfusion.tensors import output_keys, outputs
from perfusion_registry.methods.residuals.tensors import residual_of
from tests.artifact.samples import artifact, card, sd15_layers

WHOLE = save_artifact(artifact())


def test_an_artifact_on_stable_diffusion_fits_into_40_kb() -> None:
    layers = sd15_layers()
    assert (len(layers), sum(layers.values())) == (16, 12_480)
    assert sorted(layers.values()) == [320] * 5 + [640] * 5 + [1280] * 6
    data = save_artifact(artifact(layers, d=768, licence="CC-BY-4.0", authors=("A. N. Owner",)))
    assert len(data) <= 40_000
    assert len(data) >= 12_480 * 2 + 3 * 768 * 4


def test_what_is_saved_is_loaded_and_other_readers_agree(tmp_path: Path) -> None:
    whole = artifact()
    loaded = load_artifact(WHOLE)
    assert loaded.card == whole.card == read_card(WHOLE)
    assert loaded.tensors.keys() == whole.tensors.keys()
    (tmp_path / "a.safetensors").write_bytes(WHOLE)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert json.loads(file.metadata()["concept"])["name"] == "teddy"
        for key, value in whole.tensors.items():
            stored = file.get_tensor(key)
            assert stored.dtype == (torch.float16 if key.startswith("output") else torch.float32)
            assert torch.equal(stored, value.to(stored.dtype))
            assert torch.equal(loaded.tensors[key], stored)
    assert load_artifact(tmp_path / "a.safetensors").card == whole.card
    assert outputs(loaded.tensors).keys() == {"mid_block.attn2", "up_blocks.1.attn2"}
    assert output_keys(loaded.tensors) == {}


def test_the_bytes_do_not_depend_on_the_process_or_on_the_order() -> None:
    program = (
        "import sys; from tests.artifact.samples import artifact; from perfusion_registry.artifact import *; "
        "a = artifact(); a = Artifact(a.card, dict(reversed(a.tensors.items()))); "
        "sys.stdout.buffer.write(save_artifact(a))"
    )
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=Path(__file__).parents[2],
        )
        assert run.stdout == WHOLE
    assert save_artifact(load_artifact(WHOLE)) == WHOLE


def test_trained_keys_are_kept_and_must_be_declared() -> None:
    whole = artifact(train=TrainOptions(trained_keys=True))
    keys = {f"output_key.{path}": value + 1 for path, value in outputs(whole.tensors).items()}
    loaded = load_artifact(save_artifact(Artifact(whole.card, {**whole.tensors, **keys})))
    assert output_keys(loaded.tensors).keys() == outputs(loaded.tensors).keys()
    with pytest.raises(PerfError, match="trained keys"):
        save_artifact(whole)
    with pytest.raises(PerfError, match="trained keys"):
        save_artifact(Artifact(card(), {**whole.tensors, **keys}))


def test_a_residual_is_kept_whole_and_must_be_declared() -> None:
    declared = artifact(train=TrainOptions(residual_rank=0.05))
    pair = {"residual_down.mid_block": torch.ones(2, 6), "residual_up.mid_block": torch.ones(6, 2)}
    loaded = load_artifact(save_artifact(Artifact(declared.card, {**declared.tensors, **pair})))
    assert {path: (a.shape, b.shape) for path, (a, b) in residual_of(loaded.tensors).items()} == {
        "mid_block": ((2, 6), (6, 2))
    }
    assert all(loaded.tensors[key].dtype == torch.float16 for key in pair)
    assert residual_of(load_artifact(WHOLE).tensors) == {}
    for wrong in (
        {},
        {"residual_down.mid_block": torch.ones(2, 6)},
        pair | {"residual_up.mid_block": torch.ones(6, 3)},
        pair | {"residual_up.mid_block": torch.ones(12)},
    ):
        with pytest.raises(PerfError, match="residual"):
            save_artifact(Artifact(declared.card, {**declared.tensors, **wrong}))
    with pytest.raises(PerfError, match="does not match its card"):
        save_artifact(Artifact(card(), {**artifact().tensors, **pair}))


def altered(**tensors: torch.Tensor | None) -> Artifact:
    whole = artifact()
    changed = {**whole.tensors, **{key.replace("__", "."): value for key, value in tensors.items()}}
    return Artifact(whole.card, {key: value for key, value in changed.items() if value is not None})


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"embedding": None}, "`embedding` is missing"),
        ({"target_input_dual": None}, "`target_input_dual` is missing"),
        ({"embedding": torch.tensor([1.0, float("nan")])}, "not finite"),
        ({"output__mid_block__attn2": torch.tensor([1e6])}, "not finite"),
        ({"embedding": torch.ones(2, 2)}, "not one dimension"),
        ({"embedding": torch.ones(0)}, "not one dimension"),
        ({"embedding": torch.tensor(1.0)}, "not one dimension"),
        ({"target_input": torch.ones(3)}, "differ in length"),
        ({"target_input_dual": -torch.ones(8), "target_input": torch.ones(8)}, "energy"),
        ({"output__mid_block__attn2": None, "output__up_blocks__1__attn2": None}, "no target outputs"),
        ({"surprise": torch.ones(1)}, "unknown tensor"),
        ({"output__": torch.ones(1)}, "unknown tensor"),
        ({"output__a/../b": torch.ones(1)}, "unknown tensor"),
    ],
)
def test_tensors_that_are_not_the_formats_are_refused_on_both_ways(
    tensors: dict[str, torch.Tensor | None], said: str
) -> None:
    wrong = altered(**tensors)
    with pytest.raises(PerfError, match=said):
        save_artifact(wrong)
    vectors = ("embedding", "target_input", "target_input_dual")
    stored = {
        key: value.to(torch.float32 if key in vectors else torch.float16).contiguous()
        for key, value in wrong.tensors.items()
    }
    data = save(stored, {"concept": card_fields(wrong.card).model_dump_json()})
    with pytest.raises(PerfError, match=said):
        load_artifact(data)


def test_a_wrong_number_format_is_refused() -> None:
    tensors = load(WHOLE)
    tensors["embedding"] = tensors["embedding"].double()
    with pytest.raises(PerfError, match=r"float64, not torch\.float32"):
        load_artifact(save(tensors, {"concept": card_fields(artifact().card).model_dump_json()}))


def with_card(text: str) -> bytes:
    return bytes(save(load(WHOLE), {"concept": text}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("[" * 5000, "not a JSON object"),
        ("{}", "wrong at"),
        (json.dumps({**card_fields(card()).model_dump(mode="json"), "bias": 1}), "wrong at `bias`"),
        (
            json.dumps({**card_fields(card()).model_dump(mode="json"), "recipe_digest": "../../etc"}),
            "wrong at `recipe_digest`",
        ),
        (json.dumps({**card_fields(card()).model_dump(mode="json"), "name": "../x"}), "wrong at `name`"),
        (json.dumps({**card_fields(card()).model_dump(mode="json"), "schema_version": 3}), "format 3"),
    ],
)
def test_cards_that_are_not_cards_are_refused(text: str, said: str) -> None:
    with pytest.raises(PerfError, match=said):
        load_artifact(with_card(text))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"\0" * 64,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 400_000) + b"{" * 400_000,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        b"PK\x03\x04" + b"\0" * 100,
        b"\x80\x04\x95" + b"\0" * 100,
    ],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(PerfError):
        load_artifact(data)


def test_every_truncation_is_refused() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(PerfError):
            load_artifact(WHOLE[:length])
    with pytest.raises(PerfError):
        load_artifact(WHOLE + b"\0")


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_are_an_error_or_another_whole_artifact(changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    try:
        loaded = load_artifact(bytes(data))
    except PerfError:
        return
    save_artifact(loaded)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(PerfError, match="cannot be read"):
            load_artifact(path)


def test_reading_a_card_needs_no_torch() -> None:
    program = (
        "import sys; from perfusion_registry.artifact import read_card; read_card(sys.stdin.buffer.read()); "
    )
    program += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], input=WHOLE, check=True)
