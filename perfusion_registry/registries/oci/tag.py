"""How versions are spelled as tags of an OCI repository, and the tags that are not versions.

    1.0.0               the release (PEP 440's `!` and `+`, which a tag cannot hold, are `-` and `_`)
    _claim.1.0.0        which of several publishers of 1.0.0 came first
    _yank.1.0.0         whether 1.0.0 is yanked; without the tag it is not

A normalised PEP 440 version has neither `-` nor `_`, so the spelling can be reversed; `_` for `+` is Helm's.
"""

from __future__ import annotations

import re

from packaging.version import InvalidVersion
from packaging.version import Version as ParsedVersion

from perfusion_registry.registries.registry import RegistryError

TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
"""What the OCI specification allows as a tag."""

_TO_TAG = str.maketrans("!+", "-_")
_FROM_TAG = str.maketrans("-_", "!+")
_CLAIM = "_claim."
_YANK = "_yank."
_LONGEST = 128 - len(_CLAIM)


def version_tag(version: str) -> str:
    """The tag of a normalised version; raises RegistryError when the version is too long for one."""
    tag = version.translate(_TO_TAG)
    if len(tag) > _LONGEST or not TAG.match(tag):
        raise RegistryError(
            f"the version `{version[:80]}` cannot be a tag of an OCI registry",
            hint=f"choose a version of at most {_LONGEST} characters",
        )
    return tag


def claim_tag(version: str) -> str:
    """The tag that the publishers of a version race for."""
    return _CLAIM + version_tag(version)


def yank_tag(version: str) -> str:
    """The tag that says whether a version is yanked."""
    return _YANK + version_tag(version)


def tag_version(tag: str) -> str | None:
    """The version that a tag spells; None for what is not a version in its one spelling (`latest`, `v1`)."""
    if not TAG.match(tag) or len(tag) > _LONGEST:
        return None
    text = tag.translate(_FROM_TAG)
    try:
        version = str(ParsedVersion(text))
    except InvalidVersion:
        return None
    return version if version == text else None
