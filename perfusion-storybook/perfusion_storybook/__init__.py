"""Storybook, the base that ships with perf: weights and their card, and no code.

`weights/` is a base as diffusers keeps one, with its model card and what perf reads beside it.
`editions.toml` has every edition so far by the digests that lockfiles, pictures and artifacts know it by.
"""

__version__ = "1.0.0"
