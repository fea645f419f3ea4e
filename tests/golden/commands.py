"""What is asked of the golden place, in this order: each leaves the place to the next as it is then."""

from __future__ import annotations

TWO = "a bear* next to a dog*"

COMPOSITIONS: dict[str, tuple[str, ...]] = {
    "none": ("author", "a photo of a cat in the snow"),
    "one": ("author", "a photo of a bear*"),
    "one-from-a-registry": ("team", "a photo of a bear*"),
    "two": ("author", TWO),
    "two-once-more": ("author", "a dog* and a bear* in the snow, a bear* on a table"),
    "gates-in-the-prompt": ("author", "a bear*{bias=0.5, temperature=0.2} and a pot*{lock=local}"),
    "gates-of-the-command": ("author", TWO, "--bias", "0.6", "--temperature", "dog=0.3", "--residual", "0.4"),
    "a-preset": ("author", "a pot* and a bear*", "--preset", "together"),
    "locks": (
        *("author", "a bear* and a pot* and a cat*", "--lock", "bear=global", "--lock", "cat=none"),
        *("--bias", "bear=0.65"),  # since a global lock by itself has another
    ),
    "trained-keys": ("author", "a photo of a cat*"),
    "two-words": ("author", "a boat* in the sea"),
    "every-option": ("author", "a hat* on a table"),
    "a-scene": ("author", "--scene", "tea"),
    "a-scene-of-a-pack": ("team", "--scene", "tour/snow"),
    "a-scene-with-a-prompt": ("author", "--scene", "tea", "a pot* and a bear* in a garden"),
    "embedded": ("home", "a teddy* in the snow"),
}
"""Compositions by name: the project, and the arguments of `perf compose`."""

PICTURES: dict[str, tuple[str, ...]] = {
    "none": ("author", "a photo of a cat in the snow"),
    "one": ("author", "a photo of a bear*", "--seed", "3", "--steps", "1", "--size", "32x32"),
    "two": (
        *("author", TWO, "--seed", "7", "--steps", "3", "--guidance", "3.5", "--negative", "red"),
        *("--scheduler", "euler", "--lock", "bear=global", "--residual", "0.5"),
        *("--bias", "bear=0.65"),
    ),
}
"""Pictures by name: the project, and the arguments of `perf render`."""

BATCH = (
    *("author", "a photo of a pot*", "--count", "3", "--batch", "2", "--scheduler", "dpmsolver"),
    *("--size", "40x32"),
)
"""Three pictures, two of them at once, with their sheet."""

JSON: dict[str, tuple[str, ...]] = {
    "list": ("author", "list"),
    "list-home": ("home", "list"),
    "list-team": ("team", "list"),
    "metadata": ("author", "metadata"),
    "metadata-team": ("team", "metadata"),
    "tree": ("author", "tree"),
    "tree-team": ("team", "tree"),
    "lock": ("author", "lock", "--check"),
    "lock-upgrade": ("team", "lock", "--upgrade", "--dry-run"),
    "lock-lowest": ("team", "lock", "--lowest", "--upgrade", "--dry-run"),
    "build": ("author", "build", "--dry-run"),
    "build-force": ("author", "build", "--force", "--dry-run"),
    "build-team": ("team", "build", "--dry-run"),
    "sync-planned": ("team", "sync", "--dry-run"),
    "sync": ("team", "sync"),
    "sync-locked": ("team", "sync", "--locked"),
    "verify": ("author", "verify"),
    "verify-team": ("team", "verify"),
    "verify-signed": ("team", "verify", "--require-signed"),
    "info": ("author", "info", "cat"),
    "info-registry": ("team", "info", "studio/bear"),
    "info-yanked": ("team", "info", "studio/bear==1.1.0"),
    "info-pack": ("team", "info", "studio/tour"),
    "search": ("team", "search"),
    "search-words": ("team", "search", "one", "ear"),
    "outdated": ("team", "list", "--outdated"),
    "publish": ("author", "publish", "bear", "--sign", "--dry-run"),
    "publish-new": ("author", "publish", "cat", "--dry-run"),
    "publish-again": ("author", "publish", "bear", "--sign"),
    "key-list": ("team", "key", "list"),
    "key-show": ("team", "key", "show"),
    "explain": ("author", "explain", TWO),
    "explain-locks": (
        *("author", "explain", "a cat* and a pot*"),
        *("--bias", "pot=0.6", "--temperature", "pot=0.15"),  # what --preset pot=editable was then
    ),
    "explain-presets": ("author", "explain", "--presets"),
    "vendor": ("team", "vendor"),
    "cache-verify": ("author", "cache", "verify"),
}
"""Commands by name, each with `--json`: the project, and the arguments."""
