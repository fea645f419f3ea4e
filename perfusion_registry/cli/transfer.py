"""`perf build --for BASE`: what became of the concepts that were transferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.cli import console

if TYPE_CHECKING:
    from perfusion_registry.operations.build import BuildResult
    from perfusion_registry.operations.transfer import TransferOptions


def tell_transferred(result: BuildResult, asked: TransferOptions) -> None:
    """Say what was transferred, and how far its encodings are from what they were."""
    base = asked.base
    for needed in result.needed:
        console.say(f"Would transfer {needed.name} {needed.version} to {base}")
    cells = []
    for row in result.built:
        source, similarity = row.card.transferred, row.card.own_similarity
        moved = None if source is None else source.moved
        cells.append(
            [
                row.name,
                row.version,
                source.base if source is not None else "",
                console.duration(row.seconds),
                console.size(row.size),
                "" if moved is None else f"{moved:.0%}",
                "" if similarity is None else f"{similarity:.2f}",
            ]
        )
    if cells:
        columns = ["concept", "version", "learned on", "time", "size", "moved", "similarity"]
        console.say_table(columns, cells, right=columns[3:])
        console.say("moved: how far its encoding is from what it was; similarity: of its own word to it now")
    if result.up_to_date:
        console.say(f"As they are on {base}: {', '.join(result.up_to_date)}")
    if result.out is not None and not result.needed:
        console.say(f"Wrote {result.out}; nothing is locked")
    elif result.built:
        prompt = f"perf render 'a {result.built[0].name}*'"
        if result.locked:
            console.say(f"Next: {prompt}")
        else:
            C = f" --covariance {asked.covariance}" if asked.covariance is not None else ""
            console.say(f"Nothing is locked. Next: {prompt} --for {base}{C}")
