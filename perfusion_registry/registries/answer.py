"""An answer of a web server: its body, bounded and whole, or a sentence about why it is not."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfusion_registry.registries.pool import Watch, failures
from perfusion_registry.registries.registry import RegistryError, TransferError

if TYPE_CHECKING:
    import urllib3

_PIECE = 2**16
_GZIP_ADDS = 4096


@dataclass(frozen=True)
class Answer:
    """An answer of the mirror whose body is still to be read, and the watch that ends it."""

    response: urllib3.BaseHTTPResponse
    mirror: str
    url: str
    watch: Watch


def pieces(answer: Answer, limit: int) -> Iterator[bytes]:
    """The body, decoded, at most `limit` bytes; raises TransferError when it is more, or not whole."""
    response, where = answer.response, shown(answer.url)
    whole = False
    try:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise RegistryError("the server sends an encoding that perf did not ask for", where=where)
        chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
        length = response.headers.get("content-length", "")
        if answer.watch.expired:
            raise TimeoutError
        if not chunked and not (length.isascii() and length.isdigit()):
            raise TransferError("the server does not say where its answer ends", where=where)
        raw = _raw(response, limit, where)
        yield from _gunzipped(raw, limit, where) if "gzip" in encoding else raw
        whole = True
    except failures() as error:
        raise broken(error, answer.url, answer.watch) from error
    finally:
        if whole:
            finish(answer)
        else:
            answer.watch.stop()
            response.close()


def _raw(response: urllib3.BaseHTTPResponse, limit: int, where: str) -> Iterator[bytes]:
    """The body as it comes over the wire; gzip may add a little to what cannot be made smaller."""
    had = 0
    while piece := response.read1(_PIECE, decode_content=False):
        had += len(piece)
        if had > limit + (_GZIP_ADDS if "content-encoding" in response.headers else 0):
            raise _too_much(limit, where)
        yield piece


def _gunzipped(pieces: Iterator[bytes], limit: int, where: str) -> Iterator[bytes]:
    """Decompress as it comes, never more than the limit, whatever a few bytes claim to become."""
    inflate = zlib.decompressobj(wbits=31)
    had = 0
    try:
        for piece in pieces:
            full = True
            while full:
                out = inflate.decompress(piece, _PIECE)
                piece, full = inflate.unconsumed_tail, len(out) == _PIECE
                had += len(out)
                if had > limit:
                    raise _too_much(limit, where)
                yield out
            if inflate.unused_data:
                raise TransferError("the server's answer has more after its end (gzip)", where=where)
    except zlib.error as error:
        raise TransferError("the server's answer is damaged (gzip)", where=where) from error
    if not inflate.eof:
        raise TransferError("the server's answer breaks off (gzip)", where=where)


def finish(answer: Answer) -> None:
    """Give the connection back for the next question; the body was read."""
    answer.watch.stop()
    answer.response.release_conn()


def dismiss(response: urllib3.BaseHTTPResponse) -> None:
    """Be done with an answer whose body nobody wants: a short one is read away, else the connection ends."""
    length = response.headers.get("content-length", "")
    short = response.status == 304 or (length.isascii() and length.isdigit() and len(length) < 5)
    if short and "transfer-encoding" not in response.headers:
        response.drain_conn()
        response.release_conn()
    else:
        response.close()


def broken(error: Exception, url: str, watch: Watch) -> RegistryError:
    """The error for an answer that did not come, or not whole."""
    import ssl

    import urllib3

    reason = error.args[-1] if error.args and isinstance(error.args[-1], Exception) else error
    hint = "check the address and the network, then try again"
    if isinstance(reason, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
        return RegistryError(
            "the server's certificate is not accepted",
            where=shown(url),
            hint="check the address; SSL_CERT_FILE names further certificate authorities",
        )
    if isinstance(error, urllib3.exceptions.LocationValueError):
        return RegistryError("this address cannot be understood", where=shown(url))
    if watch.expired or isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError):
        what = "the server is too slow"
    elif isinstance(error, urllib3.exceptions.NameResolutionError):
        what = "the server's name is not known"
    elif isinstance(error, urllib3.exceptions.NewConnectionError):
        what = "the server cannot be reached"
    elif isinstance(error, urllib3.exceptions.IncompleteRead | urllib3.exceptions.InvalidChunkLength):
        what = "the server's answer breaks off"
    else:
        what = f"the connection broke ({type(reason).__name__})"
    return TransferError(what, where=shown(url), hint=hint)


def _too_much(limit: int, where: str) -> TransferError:
    return TransferError(f"the server sends more than the {limit:,} bytes that belong here", where=where)


def shown(url: str) -> str:
    """An address for an error: without its query, which may be a signature that opens doors."""
    return url.partition("?")[0][:300]
