"""What a drawing is of: a prompt, a list of prompts, a composition, or what made a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from perfusion_registry.compose.composition import parse_composition
from perfusion_registry.errors import PerfError
from perfusion_registry.operations.compose import Prompting, PromptOptions
from perfusion_registry.operations.job import CompositionSource, PictureSource, Source
from perfusion_registry.operations.prompt_list import PromptList, read_prompt_file, read_prompts
from perfusion_registry.shards import WHOLE, parse_shard

PIPED = "-"
"""What stands for standard input, in the place of a prompt or of a file."""


def read_source(
    prompt: str | None,
    how: Prompting,
    *,
    prompts: Path | None,
    composition: Path | None,
    picture: Path | None,
    shard: str | None = None,
    stdin: Callable[[], bytes],
) -> Source | PromptList:
    """What `perf render` draws. how: what else is said of prompts. prompts, composition, picture: the files
    of `--prompts`, `--composition` and `--from`. stdin: gives what `-` stands for. shard: `2/8`, which part
    of a list of prompts.

    Raises PerfError where more than one is named, and for what goes with none but a prompt.
    """
    if prompt == PIPED and prompts is None:
        prompt, prompts = None, Path(PIPED)
    said = prompt if prompts is not None else prompt or how.scene
    given = {"a prompt": said, "--prompts": prompts, "--composition": composition, "--from": picture}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise PerfError(f"{' and '.join(names)} cannot go together", hint="choose one")
    if composition is not None or picture is not None:
        _check_by_hashes(names[0], how)
    if prompts is not None:
        piped = str(prompts) == PIPED
        lines = read_prompts(stdin(), "stdin") if piped else read_prompt_file(prompts)
        part = WHOLE if shard is None else parse_shard(shard)
        return PromptList(lines=lines, name="stdin" if piped else str(prompts), shard=part, **vars(how))
    if shard is not None:
        raise PerfError("--shard takes a part of a list of prompts", hint="give the list with --prompts FILE")
    if picture is not None:
        return PictureSource(picture=picture, gates=how.gates, compute=how.compute)
    if composition is not None:
        read = parse_composition(stdin(), where="stdin") if str(composition) == PIPED else composition
        return CompositionSource(composition=read, gates=how.gates, compute=how.compute)
    return PromptOptions(prompt=prompt, **vars(how))


def _check_by_hashes(option: str, how: Prompting) -> None:
    """Refuse what has no say in a file that names base and concepts by their hashes."""
    hint = "give a prompt instead"
    if how.files:
        raise PerfError(
            f"{option} names its concepts by their hashes, so no file can stand in for one",
            where=f"--with {how.files[0]}",
            hint=hint,
        )
    if how.base is not None:
        raise PerfError(
            f"{option} names its base and its concepts by their hashes", where=f"--for {how.base}", hint=hint
        )
