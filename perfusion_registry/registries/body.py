"""The body of an answer: bounded, decoded, and whole, or an error that says why it is not."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from perfusion_registry.registries.pool import network_errors
from perfusion_registry.registries.registry import RegistryError, TransferError
from perfusion_registry.registries.transport import Response, drain, redact, transfer_error

_PIECE = 2**16
_GZIP_ADDS = 4096


def read_pieces(response: Response, limit: int) -> Iterator[bytes]:
    """The body, decoded, at most `limit` bytes; raises TransferError when it is more, or not whole."""
    raw, where = response.raw, redact(response.url)
    whole = False
    try:
        encoding = raw.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise RegistryError("the server sends an encoding that perf did not ask for", where=where)
        if response.deadline.expired:
            raise TimeoutError
        if response.method == "GET" and response.status == 200 and not _delimited(response):
            raise TransferError("the server does not say where its answer ends", where=where)
        if response.method != "HEAD" and response.status not in (204, 304):
            pieces = _encoded(response, limit, where)
            yield from _gunzipped(pieces, limit, where) if "gzip" in encoding else pieces
        if response.deadline.expired:
            raise TimeoutError
        whole = True
    except network_errors() as error:
        raise transfer_error(error, response.url, response.deadline) from error
    finally:
        response.deadline.stop()
        if whole:
            raw.release_conn()
        else:
            raw.close()


def read_whole(response: Response, limit: int) -> bytes:
    """The body in one piece, as `read_pieces` reads it."""
    return b"".join(read_pieces(response, limit))


def discard(response: Response) -> None:
    """Free the connection of an answer whose body is not wanted."""
    drain(response.raw)
    response.deadline.stop()


def _delimited(response: Response) -> bool:
    """Whether the answer says where it ends, so that a part of it does not look like all of it."""
    length = response.headers.get("content-length", "")
    chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
    return chunked or (length.isascii() and length.isdigit())


def _encoded(response: Response, limit: int, where: str) -> Iterator[bytes]:
    """The body as it comes over the wire; gzip may add a little to what cannot be made smaller."""
    had = 0
    while piece := response.raw.read1(_PIECE, decode_content=False):
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


def _too_much(limit: int, where: str) -> TransferError:
    return TransferError(f"the server sends more than the {limit:,} bytes that belong here", where=where)
