"""What an OCI registry says when it does not do what it was asked."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perfusion_registry.errors import one_line
from perfusion_registry.registries.oci.http import Answer
from perfusion_registry.registries.oci.token import DeniedError
from perfusion_registry.registries.registry import RegistryError, TransferError
from perfusion_registry.registries.transport import is_passing, redact


class _Complaint(BaseModel):
    model_config = ConfigDict(extra="ignore")
    code: str = ""
    message: str = ""


class _Complaints(BaseModel):
    model_config = ConfigDict(extra="ignore")
    errors: list[_Complaint] = Field(default_factory=list)


def refusal(answer: Answer, what: str) -> RegistryError:
    """The error for a status that is not the expected one, with the registry's own message, cut short."""
    try:
        errors = _Complaints.model_validate_json(answer.data).errors
    except ValidationError:
        errors = []
    words = ": ".join(part for part in (errors[0].code, errors[0].message) if part) if errors else ""
    reply = f"{answer.status}, {one_line(words)}" if words else str(answer.status)
    where = redact(answer.url)
    if answer.status in (401, 403):
        return DeniedError(
            f"the registry does not allow us to {_OURS.get(what, what)} ({reply})",
            where=where,
            hint="check the credentials, and what they are allowed to do",
        )
    # Registries that keep plain files report a wrong digest while another client writes the same file.
    passing = is_passing(answer.status) or "DIGEST_INVALID" in words
    error = TransferError if passing else RegistryError
    return error(
        f"the registry does not {what} ({reply})", where=where, hint="check its address, or try again"
    )


_OURS = {
    "hand out a manifest": "read a manifest",
    "take a manifest": "write a manifest",
    "take an upload": "upload",
    "take the blob": "upload the blob",
    "list": "list what it has",
}
