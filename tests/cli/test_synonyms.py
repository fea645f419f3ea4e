"""Other tools' names of options and commands are answered by what they mean, not by how they are spelt."""

from __future__ import annotations

import pytest

from perfusion_registry.base.scheduler_names import COMPATIBLE, FEW_STEPS, SHORT_NAMES
from perfusion_registry.other_tools import COMMANDS, DECLARING, DRAWING, TRAINING
from tests.cli.running import Perf


@pytest.mark.parametrize("option", DRAWING)
def test_an_option_of_another_tool_is_translated(perf: Perf, option: str) -> None:
    refused = perf("render", "a sea", option, "7")
    assert refused.code == 2
    assert DRAWING[option] in refused.err
    assert "Did you mean" not in refused.err


@pytest.mark.parametrize("option", DECLARING)
def test_an_option_of_another_trainer_is_translated(perf: Perf, option: str) -> None:
    refused = perf("add", "bunny", option, "7")
    assert refused.code == 2
    assert DECLARING[option] in refused.err
    assert "Possible options" not in refused.err


@pytest.mark.parametrize("option", TRAINING)
def test_a_build_says_where_options_of_trainers_stand(perf: Perf, option: str) -> None:
    refused = perf("build", option, "7")
    assert refused.code == 2
    assert "recipes/NAME.toml" in refused.err
    assert "Possible options" not in refused.err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_verb_of_another_tool_is_translated(perf: Perf, command: str) -> None:
    refused = perf(command)
    assert refused.code == 2
    assert COMMANDS[command] in refused.err


def test_an_answer_names_no_option_that_the_command_lacks(perf: Perf) -> None:
    assert "--size WxH" in perf("sweep", "a sea", "--width", "512").err
    for command in ("compose", "explain"):
        for option in ("--width", "--cfg", "-n", "--sampler", "--grid"):
            refused = perf(command, "a sea", option, "7")
            assert refused.code == 2
            assert DRAWING[option] not in refused.err
    assert "--count" not in perf("tune", "a sea", "-n", "4").err


def test_what_is_only_mistyped_is_still_answered_by_its_spelling(perf: Perf) -> None:
    assert "--steps" in perf("render", "a sea", "--step", "7").err
    assert "tells what it takes" in perf("lock", "--cfg").err


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("DPM++ 2M Karras", "dpmsolver"),
        ("euler_a", "EulerAncestralDiscreteScheduler"),
        ("DDIM", "ddim"),
        ("DPM++ 2S Karras", "DPMSolverSinglestepScheduler"),
        ("dpm++ 2m polyexponential", "dpmsolver"),
        ("unipc", "UniPCMultistepScheduler"),
        ("EulerDiscrete", "euler"),
    ],
)
def test_a_sampler_of_another_tool_is_translated(perf: Perf, name: str, ours: str) -> None:
    refused = perf("render", "a sea", "--scheduler", name)
    assert refused.code == 2
    assert f"--scheduler {ours} here" in refused.err
    assert ours in (*SHORT_NAMES, *COMPATIBLE, *FEW_STEPS)


@pytest.mark.parametrize(
    "name", ["DPM++ 2M SDE Karras", "dpmpp_2m_sde_gpu", "dpmpp_2s_ancestral", "DPM++ 2S a"]
)
def test_a_sampler_with_fresh_noise_is_not_taken_for_one_without(perf: Perf, name: str) -> None:
    refused = perf("render", "a sea", "--scheduler", name)
    assert refused.code == 2
    assert "this sampler is not here; DPMSolverSDEScheduler, too" in refused.err


def test_a_sampler_that_nobody_knows_and_a_prompt_without_quotes(perf: Perf) -> None:
    refused = perf("render", "a sea", "--scheduler", "qwertz")
    assert "write ddim, dpmsolver, euler" in refused.err
    for command in ("render", "sweep", "explain"):
        refused = perf(command, "a", "teddy*", "in", "snow")
        assert refused.code == 2
        assert f'put the prompt into quotes: perf {command} "a teddy* in snow"' in refused.err


def test_a_dash_is_no_prompt(perf: Perf) -> None:
    assert "There is no prompt here" in perf("render", "-").err  # standard input, which is empty
    for command in ("sweep", "compose", "explain"):
        refused = perf(command, "-")
        assert refused.code == 2
        assert "`perf render` alone reads prompts from standard input" in refused.err
