"""What the commands can, the library can: each option has its parameter, or is known to have none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from typer.main import get_command

import perfusion_registry as perf
from perfusion_registry.cli import app
from tests.cli.test_interface import leaves

Project, Composer = perf.Project, perf.Composer

METHODS: dict[tuple[str, ...], tuple[Callable[..., Any], ...]] = {
    ("init",): (perf.create,),
    ("add",): (Project.add, Project.add_release),
    ("import",): (Project.import_file,),
    ("remove",): (Project.remove,),
    ("list",): (Project.concepts, Project.outdated),
    ("suggest-super",): (Project.suggest,),
    ("lock",): (Project.lock,),
    ("sync",): (Project.sync, perf.sync_lockfile),
    ("tree",): (Project.tree,),
    ("metadata",): (Project.metadata,),
    ("build",): (Project.build, Project.build_as, Project.transfer),
    ("covariance",): (perf.estimate_covariance, perf.count_covariance_shard, perf.merge_covariance),
    ("export",): (Project.export,),
    ("link",): (Project.link,),
    ("compose",): (Project.composer, Composer.compose),
    ("explain",): (Project.composer, Composer.explain),
    ("render",): (Project.composer, Composer.render, perf.redraw),
    ("sweep",): (Project.composer, Composer.sweep),
    ("tune",): (Project.composer, Composer.tune),
    ("evaluate",): (Project.evaluate,),
    ("search",): (Project.search,),
    ("info",): (Project.info,),
    ("vendor",): (Project.vendor,),
    ("publish",): (Project.publish,),
    ("yank",): (Project.yank,),
    ("unyank",): (Project.unyank,),
    ("verify",): (Project.verify, Project.rebuild),
    ("doctor",): (Project.doctor,),
}

OPERATIONS_ONLY = {("merge-driver",), ("cache",), ("key",)}
"""Of git and of the machine: a program calls `perfusion_registry.operations`, if it ever has to."""

SPELT_OTHERWISE = {
    "more": "images",
    "for_base": "base",
    "upgrade_package": "upgrade",
    "negative": "negative_prompt",
    "figure": "figures",
    "with_base": "bases",
    "size": "width",
    "release": "version",
    "concept": "names",
    "composition": "prompt",
    **dict.fromkeys(("bias", "relative_bias", "temperature", "lock", "residual", "lag", "preset"), "gates"),
    "method": "methods",
    **dict.fromkeys(
        ("concepts", "prompts", "seeds", "steps", "train_steps", "trainings", "settings"), "budget"
    ),
}
"""Options and parameters of two names."""

SEVERAL = {
    ("render",): {"seed": "seeds", "count": "seeds", "source": "path", "prompts": "prompt"},
    ("sweep",): {"bias": "biases", "temperature": "temperatures"},
    ("tune",): {
        "seed": "seeds",
        "count": "seeds",
        "bias": "biases",
        "temperature": "temperatures",
        "lock": "locks",
        "residual": "residuals",
        "tries": "choices",
    },
}

NOT_OFFERED = {
    ("covariance",): {"merge"},  # a function of its own
    ("list",): {"outdated"},  # a method of its own
    ("verify",): {"rebuild"},
    ("metadata",): {"format_version"},  # the one that there is
    ("lock",): {"locked", "frozen"},  # `check`; and nothing to lock
    ("compose",): {"out"},  # a composition has `to_json`
    ("explain",): {"presets"},
    ("build",): {"strict"},  # a result has the verdicts; what becomes of a bad one is the caller's affair
    # Pictures are the caller's to save and lay out, and drawn with the base that the composer has loaded.
    ("render",): {
        "out",
        "force",
        "sheet",
        "show",
        "picture_format",
        "quality",
        "shard",
        "on",
        "shared_store",
    },
    ("sweep",): {"show"},
    ("tune",): {"show"},
    ("evaluate",): {"dry_run", "shard"},
}
OF_ALL = {"project", "as_json", "quiet", "offline", "threads"}
"""What a project is opened with, what is about the terminal, and what `torch.set_num_threads` is for."""


def test_every_option_of_a_command_has_its_parameter() -> None:
    without = {}
    commands = leaves(get_command(app))
    assert METHODS.keys() <= commands.keys()
    for path, command in commands.items():
        if path[:1] in OPERATIONS_ONLY:
            continue
        known = {name for method in METHODS[path] for name in inspect.signature(method).parameters}
        options = {parameter.name for parameter in command.params} - OF_ALL
        spelt = SEVERAL.get(path, {})
        missing = {name for name in options if not {name, spelt.get(name), SPELT_OTHERWISE.get(name)} & known}
        if missing != NOT_OFFERED.get(path, set()):
            without[path] = missing
    assert without == {}
