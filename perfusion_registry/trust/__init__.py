"""Trust: who signed a release, and which keys this machine knows. Imports without torch or network."""

from perfusion_registry.trust.check import SignatureCheck, SignaturePolicy, UntrustedError, check_signature
from perfusion_registry.trust.key import (
    SIGNING_KEY_VARIABLE,
    SigningKey,
    fingerprint,
    new_key,
    read_public_key,
    signing_key,
)
from perfusion_registry.trust.known import KnownKeys, Pin, registry_identity
from perfusion_registry.trust.paths import data_dir

__all__ = [
    "SIGNING_KEY_VARIABLE",
    "KnownKeys",
    "Pin",
    "SignatureCheck",
    "SignaturePolicy",
    "SigningKey",
    "UntrustedError",
    "check_signature",
    "data_dir",
    "fingerprint",
    "new_key",
    "read_public_key",
    "registry_identity",
    "signing_key",
]
