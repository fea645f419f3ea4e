"""Who may have signed what: trust on first use, and everything that must be refused."""

from __future__ import annotations

from typing import Any

import pytest

from perfusion_registry.recipe.lockfile import FORMAT_1_GATE
from perfusion_registry.registries import Listing, Release, RequiredConcept, Signature
from perfusion_registry.registries.release import Preview
from perfusion_registry.registries.release1 import Release1
from perfusion_registry.trust import Pin, UntrustedError, check_signature, fingerprint
from perfusion_registry.trust.check import _FORGEABLE, is_signature_valid
from tests.trust.samples import FORMATS, REGISTRY, key, release, signed, unsigned


def pin(number: int = 1, since: str = "1.0.0", name: str = "teddy", registry: str = REGISTRY) -> Pin:
    return Pin(registry=registry, name=name, key=key(number).public, since=since)


def test_the_first_signature_makes_its_key_known_and_the_next_agree() -> None:
    first = check_signature(signed("1.2.0"), REGISTRY, ())
    assert first.key == key().public
    assert first.pin == pin(since="1.2.0")
    assert check_signature(signed("1.3.0"), REGISTRY, (first.pin,)).pin is None
    assert check_signature(signed("1.1.0"), REGISTRY, (first.pin,)).pin == pin(since="1.1.0")


def test_keys_are_known_for_one_name_of_one_registry() -> None:
    others = (pin(2, name="teapot"), pin(2, registry="https://other.example"))
    assert check_signature(signed(), REGISTRY, others).pin == pin()


def test_a_changed_key_is_refused_with_both_fingerprints_and_the_way_out() -> None:
    with pytest.raises(UntrustedError, match="another key") as caught:
        check_signature(signed("1.1.0", number=2), REGISTRY, (pin(1),))
    said = str(caught.value)
    assert fingerprint(key(1).public) in said
    assert fingerprint(key(2).public) in said
    assert f"perf key trust teddy {key(2).public} --registry {REGISTRY}" in said


def test_a_name_that_was_signed_is_not_taken_unsigned_any_more() -> None:
    for version in ("1.0.0", "1.0.1", "2.0.0rc1"):
        with pytest.raises(UntrustedError, match=r"is not signed, but 1\.0\.0 was"):
            check_signature(unsigned(version), REGISTRY, (pin(),))
    before_the_key = check_signature(unsigned("0.9"), REGISTRY, (pin(),))
    assert (before_the_key.key, before_the_key.pin) == (None, None)


def test_unsigned_is_fine_unless_signatures_are_required() -> None:
    assert check_signature(unsigned(), REGISTRY, ()).key is None
    with pytest.raises(UntrustedError, match="signatures are required"):
        check_signature(unsigned(), REGISTRY, (), require=True)
    with pytest.raises(UntrustedError, match="signatures are required"):
        check_signature(unsigned("0.9"), REGISTRY, (pin(),), require=True)


CHANGES: dict[str, Any] = {
    "name": "teapot",
    "version": "1.0.1",
    "sha256": "b" * 64,
    "size": 30_001,
    "family": "e" * 64,
    "covariance": "e" * 64,
    "base": "storybook",
    "supercategory": "pot",
    "recipe_digest": "d" * 64,
    "method": "perfusion-of-mine",
    "requires_perf": "9.9",
    "architecture": "sdxl",
    "render": {"bias": 0.64, "temperature": 0.15, "key_lock": "local"},
    "preview": Preview(sha256="c" * 64, size=1),
    "requires": (RequiredConcept(name="cat", version=">=1"),),
    "licence": "CC0-1.0",
    "base_licence": "MIT",
    "authors": ("Somebody Else",),
    "consent": "none",
    "description": "x",
}


FIELDS = {
    1: [name for name in Release1.model_fields if name not in FORMAT_1_GATE] + ["render"],
    2: list(Release.model_fields),
}


@pytest.mark.parametrize(
    ("form", "field"),
    [(form, name) for form in FIELDS for name in FIELDS[form] if name not in ("signature", "format")],
)
def test_a_signature_covers_every_field(form: int, field: str) -> None:
    """The cases name every field of a release, so that one added later is not left out."""
    whole = signed(**FORMATS[form]).release
    assert whole.format == form
    assert is_signature_valid(whole)
    changed = {"kind": "pack"} if field == "kind" else {field: CHANGES[field]}
    forged = whole.model_copy(update=changed)
    assert not is_signature_valid(forged)
    with pytest.raises(UntrustedError, match="does not hold"):
        check_signature(Listing(forged), REGISTRY, ())


def test_every_flipped_bit_of_a_signature_and_its_key_is_caught() -> None:
    whole = signed().release
    assert whole.signature is not None
    for field in ("key", "signature"):
        text = getattr(whole.signature, field)
        for place in range(len(text)):
            flipped = text[:place] + f"{int(text[place], 16) ^ 1:x}" + text[place + 1 :]
            forged = whole.model_copy(
                update={"signature": whole.signature.model_copy(update={field: flipped})}
            )
            assert not is_signature_valid(forged)


def test_the_same_release_and_key_give_the_same_signature() -> None:
    assert signed() == signed()
    read = Release.model_validate_json(signed().release.model_dump_json())
    assert is_signature_valid(read)


def test_a_stolen_signature_of_another_release_is_refused() -> None:
    other = signed("2.0.0").release.signature
    with pytest.raises(UntrustedError, match="does not hold"):
        check_signature(Listing(release().model_copy(update={"signature": other})), REGISTRY, ())


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("point", sorted(_FORGEABLE))
def test_keys_that_anybody_can_sign_for_are_refused(point: str, sign: int) -> None:
    """A signature of zeros holds for some of them, whatever is signed, and OpenSSL lets it pass."""
    key = point[:-2] + f"{int(point[-2:], 16) | sign:02x}"
    for nonce in ("00" * 32, "01" + "00" * 31):
        forged = Signature(key=key, signature=nonce + "00" * 32)
        for version in range(8):
            assert not is_signature_valid(release(str(version)).model_copy(update={"signature": forged}))
