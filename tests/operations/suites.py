"""The smallest suite: one concept, one prompt, and its words alone drawn."""

from __future__ import annotations


def words_alone(first: str = "", *, render: str = "", metric: str | None = None) -> str:
    """The text of its file. first: keys of its own, such as `base`. render: of `[render]`. metric: to judge
    by."""
    return f"""\
name = "mine"
title = "Words alone"
{first}
[render]
{render}
[[concepts]]
name = "bear"
group = "toys"
recipe = "bear.toml"
[[prompts]]
name = "scenes"
templates = ["a photo of a {{}}"]
[[figures]]
id = "1"
title = "Words"
kind = "bars"
{f'metrics = ["{metric}"]' if metric else ""}
[[figures.variants]]
name = "words"
method = "supercategory"
"""
