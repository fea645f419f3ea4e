"""Commits to a repository of the Hub, by its own client, with bounded waits and without its telemetry."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from perfusion_registry.registries.hub.address import HubAddress
from perfusion_registry.registries.registry import RegistryError, TransferError
from perfusion_registry.registries.transport import is_passing

_SILENCE = 30.0  # seconds without a byte
_LONGEST_WAIT = 10  # seconds that a Retry-After is obeyed for at most
_WAITS = ("retry-after", "ratelimit", "ratelimit-policy")
_MOVED_ON = (409, 412)


class MovedOnError(TransferError):
    """The branch has another commit by now than the one that was built upon."""


class HubCommits:
    """The commits of a repository, made within `bounded_client`; `token` is None for anonymous access."""

    def __init__(self, address: HubAddress, token: str | None) -> None:
        self._address = address
        self._token = token

    def head(self) -> str:
        """The last commit of the branch; raises RegistryError when the Hub does not say."""
        with self._errors("look the repository up"):
            info = self._api().repo_info(
                self._address.repo,
                repo_type=self._address.kind,
                revision=self._address.revision,
                expand=["sha"],
                timeout=_SILENCE,
            )
            return str(info.sha)

    def commit(self, files: Mapping[str, bytes], *, upon: str, message: str) -> str:
        """Make one commit of these files, whole or not at all, on top of the commit `upon`.

        Returns the new commit. Raises MovedOnError when `upon` is no longer the branch's last commit,
        TransferError when it stays unknown whether the commit was made, RegistryError when it was not.
        """
        with self._errors("make a commit"):
            from huggingface_hub import CommitOperationAdd

            done = self._api().create_commit(
                self._address.repo,
                # As streams, the large ones go by LFS over this same client, and not by a second one.
                [CommitOperationAdd(key, io.BytesIO(data)) for key, data in files.items()],
                commit_message=message,
                repo_type=self._address.kind,
                revision=self._address.revision,
                parent_commit=upon,
            )
            return str(done.oid)

    def _api(self) -> Any:
        from huggingface_hub import HfApi

        # Where there is no token, not the one that `hf auth login` saved: perf's are in the environment.
        return HfApi(endpoint=self._address.endpoint, token=self._token or False)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Within this context, whatever a server makes the client raise becomes an error of the registry."""
        from huggingface_hub.errors import (
            HfHubHTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        # The error of the HTTP library that the client is built upon.
        transport: type[BaseException] = HfHubHTTPError.__mro__[1]
        address = self._address
        where = (
            address.url
            if address.endpoint.startswith("https://huggingface.co")
            else f"{address.url}, {address.endpoint}"
        )
        try:
            yield
        except OfflineModeIsEnabled as error:
            raise offline(where) from error
        except RevisionNotFoundError as error:
            raise RegistryError(
                f"the repository has no branch `{address.revision}`",
                where=where,
                hint="make it on the Hub first",
            ) from error
        except RepositoryNotFoundError as error:
            raise RegistryError(
                "the repository is not on the Hub, or you have no access to it",
                where=where,
                hint="make it on the Hub first, or set HF_TOKEN to a token that may write to it",
            ) from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in _MOVED_ON:
                raise MovedOnError("the repository has moved on", where=where, hint="try again") from error
            if status in (401, 403):
                raise RegistryError(
                    f"the Hub does not allow us to {what} ({status})",
                    where=where,
                    hint="set HF_TOKEN to a token that may write to the repository",
                ) from error
            kind = TransferError if is_passing(status) else RegistryError
            raise kind(
                f"the Hub does not {what} (it answers {status})", where=where, hint="try again later"
            ) from error
        except (transport, OSError) as error:
            raise TransferError(
                f"the Hub does not answer ({type(error).__name__})",
                where=where,
                hint="check the network, then try again",
            ) from error
        except RuntimeError as error:
            raise TransferError("an upload to the Hub broke off", where=where, hint="try again") from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise TransferError(
                f"the Hub's answer cannot be understood ({type(error).__name__})",
                where=where,
                hint="try again; if it stays so, upgrade huggingface_hub",
            ) from error


def offline(where: str) -> RegistryError:
    """The error for work on the Hub while its own variable forbids that."""
    return RegistryError(
        "the Hub cannot be reached while HF_HUB_OFFLINE is set", where=where, hint="unset HF_HUB_OFFLINE"
    )


@contextmanager
def bounded_client() -> Iterator[None]:
    """Within this context, the Hub's client has timeouts, ignores long waits, and sends no telemetry.

    By default it logs, sends a list of what is installed here, and fetches a list to find out who runs it.
    """
    from huggingface_hub import constants, get_session, set_client_factory

    usual = get_session()
    kind: Callable[..., Any] = type(usual)
    hooks = {name: list(those) for name, those in usual.event_hooks.items()}

    def bounded() -> Any:
        return kind(
            event_hooks={**hooks, "response": [*hooks.get("response", []), _without_long_waits]},
            follow_redirects=True,
            timeout=_SILENCE,
        )

    def as_before() -> Any:
        return kind(event_hooks=hooks, follow_redirects=True, timeout=None)

    log = logging.getLogger("huggingface_hub")
    level, quiet = log.level, constants.HF_HUB_DISABLE_TELEMETRY
    constants.HF_HUB_DISABLE_TELEMETRY = True
    set_client_factory(bounded)
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        constants.HF_HUB_DISABLE_TELEMETRY = quiet
        set_client_factory(as_before)


def _without_long_waits(response: Any) -> None:
    """Drop the headers of an answer that ask for a long wait: the client would sleep for as long."""
    asked = response.headers.get("retry-after", "")
    short = asked.isascii() and asked.isdigit() and len(asked) < 6 and int(asked) <= _LONGEST_WAIT
    for name in _WAITS:
        if name in response.headers and not (name == "retry-after" and short):
            del response.headers[name]
