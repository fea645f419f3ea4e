"""What `perf --help` shows, known without importing a single command."""
# ruff: noqa: E501 (a table)

from __future__ import annotations

from perfusion_registry.cli.style import heading, term

PROJECT_PANEL = "Project"
BUILD_PANEL = "Build"
PROMPT_PANEL = "Prompts and pictures"
REGISTRY_PANEL = "Registries"
STORE_PANEL = "Store and trust"

COMMANDS = (
    # command, the module of this package and the function in it, its panel, the first line of its help
    ("init", "init:init", PROJECT_PANEL, "Begin a project: perfusion.toml and an example recipe."),
    ("add", "concepts:add", PROJECT_PANEL, "Declare a concept: built here (--super), or from a registry."),
    ("import", "import_:import_", PROJECT_PANEL, "Make a concept of a LoRA or embedding you have, and lock it."),
    ("remove", "concepts:remove", PROJECT_PANEL, "Take concepts out of perfusion.toml and perfusion.lock."),
    ("list", "concepts:list_concepts", PROJECT_PANEL, "Show the project's concepts and what a build would do."),
    ("suggest-super", "suggest:suggest_super", PROJECT_PANEL, "Rank words for --super by how well they describe some images."),
    ("lock", "lock:lock", PROJECT_PANEL, "Pin base, covariance and concepts in perfusion.lock."),
    ("sync", "sync:sync", PROJECT_PANEL, "Fetch what perfusion.lock names from its registries."),
    ("tree", "tree:tree", PROJECT_PANEL, "Show what is locked, and what each of it requires."),
    ("merge-driver", "merge_driver:merge_driver", PROJECT_PANEL, "Merge perfusion.lock for git, block by block."),
    ("metadata", "doctor:metadata", PROJECT_PANEL, "Print the project as JSON, for tools."),
    ("build", "build:build", BUILD_PANEL, "Train the concepts whose inputs changed, and lock them."),
    ("covariance", "covariance:covariance", BUILD_PANEL, "Estimate the covariance of a base's text encoder."),
    ("export", "export:export", BUILD_PANEL, "Write a concept as a LoRA or a textual inversion."),
    ("link", "export:link", BUILD_PANEL, "Put exports where web UIs and ComfyUI look."),
    ("compose", "compose:compose", PROMPT_PANEL, "Resolve a prompt to its concepts, their gates and locks."),
    ("explain", "compose:explain", PROMPT_PANEL, "Show token by token which concept's gate opens, and how far."),
    ("render", "render:render", PROMPT_PANEL, "Draw a prompt with its concepts."),
    ("sweep", "render:sweep", PROMPT_PANEL, "Draw a prompt over a grid of gate biases and temperatures."),
    ("tune", "tune:tune", PROMPT_PANEL, "Choose a prompt's gates, locks and residuals by their pictures."),
    ("evaluate", "evaluate:evaluate", PROMPT_PANEL, "Measure a suite: build, draw, judge, report."),
    ("search", "search:search", REGISTRY_PANEL, "Find concepts and scene packs in the project's registries."),
    ("info", "search:info", REGISTRY_PANEL, "Show what a concept says of itself, and its versions."),
    ("vendor", "sync:vendor", REGISTRY_PANEL, "Copy all that perfusion.lock needs into a folder."),
    ("publish", "publish:publish", REGISTRY_PANEL, "Publish built concepts: the very bytes that are locked."),
    ("yank", "publish:yank", REGISTRY_PANEL, "Hide a published version from new locks."),
    ("unyank", "publish:unyank", REGISTRY_PANEL, "Show a yanked version again."),
    ("verify", "verify:verify", STORE_PANEL, "Check lockfile, store and signatures."),
    ("doctor", "doctor:doctor", STORE_PANEL, "Examine this machine and this project."),
    ("cache", "cache:commands", STORE_PANEL, "Look after the store of this machine."),
    ("key", "key:commands", STORE_PANEL, "Sign what you publish; see whom you trust."),
)  # fmt: skip
"""Every command, in the order in which `perf --help` shows them."""

DESCRIPTION = "Personal concepts for text-to-image: declare, build, lock, compose, render."
_OPTIONS = (
    ("-h, --help", "Show this message and exit."),
    ("--version", "Print the version."),
    ("--install-completion", "Install completion for the current shell."),
    ("--show-completion", "Print the completion for the current shell."),
)
_END = "Begin with `perf init`; `perf COMMAND --help` explains a command."


def overview(*, styled: bool = False) -> str:
    """The text of `perf --help`; styled: with colours."""
    panels = {
        panel: [(name, told) for name, _, of, told in COMMANDS if of == panel]
        for panel in dict.fromkeys(panel for _, _, panel, _ in COMMANDS)
    }
    usage = heading("Usage:", styled=styled)
    lines = [f"{usage} perf [OPTIONS] COMMAND [ARGS]...", "", DESCRIPTION]
    for rows, columns in ((panels, max(len(name) for name, *_ in COMMANDS)), ({"Options": _OPTIONS}, 0)):
        for panel, entries in rows.items():
            width = columns or max(len(name) for name, _ in entries)
            lines += ["", f"{heading(panel, styled=styled)}:"]
            for name, told in entries:
                lines.append(f"  {term(name, styled=styled)}{' ' * (width - len(name))}  {told}")
    return "\n".join([*lines, "", _END, ""])


def module_of(command: str) -> str | None:
    """The module that adds a command; None for what is no command."""
    return next((place.partition(":")[0] for name, place, _, _ in COMMANDS if name == command), None)
