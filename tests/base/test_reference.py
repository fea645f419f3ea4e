"""What names a base, and what does not."""

from __future__ import annotations

import pytest

from perfusion_registry.base import BaseReference
from perfusion_registry.errors import PerfError


@pytest.mark.parametrize(
    ("text", "kind", "repo", "revision"),
    [
        ("storybook", "embedded", "storybook", None),
        ("owner/name", "hub", "owner/name", None),
        (
            "stable-diffusion-v1-5/stable-diffusion-v1-5@main",
            "hub",
            "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "main",
        ),
        ("o.w-n_er/na.me@refs/pr/3", "hub", "o.w-n_er/na.me", "refs/pr/3"),
        ("./storybook", "path", "./storybook", None),
        ("../bases/a b@c", "path", "../bases/a b@c", None),
        ("/srv/base", "path", "/srv/base", None),
        ("~/base", "path", "~/base", None),
        ("C:\\bases\\one", "path", "C:\\bases\\one", None),
        (".", "path", ".", None),
        ("model.safetensors", "path", "model.safetensors", None),
        ("models/Illustrious XL.safetensors", "path", "models/Illustrious XL.safetensors", None),
        ("models/v1-5.CKPT", "path", "models/v1-5.CKPT", None),
    ],
)
def test_the_three_kinds(text: str, kind: str, repo: str, revision: str | None) -> None:
    reference = BaseReference.parse(text)
    assert (reference.text, reference.kind, reference.repo, reference.revision) == (
        text,
        kind,
        repo,
        revision,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Storybook",
        "a/b/c",
        "owner/",
        "/".join(["a", ""]),
        "own er/name",
        "o/n@",
        "o/n@a@b",
        "..a/b",
        "o/..x",
        "x\n/y",
        "https://example.org/model.safetensors",
    ],
)
def test_what_names_no_base_is_told_the_forms(text: str) -> None:
    with pytest.raises(PerfError) as caught:
        BaseReference.parse(text, where="perfusion.toml, project.base")
    assert caught.value.where == "perfusion.toml, project.base"
    assert "owner/name@revision" in str(caught.value.hint)
