"""The store that machines share: artifacts by their SHA-256, builds by their digests, and what builds are
made of.

It is in a bucket: a folder that all machines see, or S3. Its layout is that of a store, and three kinds more:

    artifacts/ builds/ sheets/            as in `artifact.store`
    work/<digest>/checkpoint              the newest checkpoint of an unfinished build; empty once it is built
    files/<aa>/<sha256>/<number>, whole   files, in pieces, and that all of them are there
    results/<aa>/<digest>                 the file that is the result of a task: its SHA-256 and its size

Nothing in it is ever removed, and of two machines that build the same, the first one's result stays.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from perfusion_registry.artifact import Store
from perfusion_registry.errors import PerfError
from perfusion_registry.file_digests import sha256_of
from perfusion_registry.recipe.writing import make_folder, write_error
from perfusion_registry.registries.bucket import Bucket, NotModified

PIECE = 64 * 2**20
"""Bytes of a piece of a file, so that none is larger than a bucket takes or a machine wants in memory."""
LARGEST = 2**30
"""Bytes of an artifact, a sheet or a checkpoint; a larger checkpoint is not shared (`node`)."""
_RECORD = 200


def open_bucket(address: str) -> Bucket:
    """The bucket of a shared store; no socket is opened yet. Raises PerfError for another kind of address."""
    if address.startswith("s3://"):
        from perfusion_registry.registries.s3 import S3Bucket

        return S3Bucket(address, name="shared-store")
    if "://" in address:
        raise PerfError(
            "machines share a store in a folder or in S3",
            where=f"--shared-store {address}",
            hint="give a folder that all of them see, or s3://BUCKET/PREFIX",
        )
    from perfusion_registry.registries.folder import FolderBucket

    return FolderBucket(Path(address), url=address)


class SharedStore:
    """What machines share, by its address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._bucket = open_bucket(address)

    def lookup(self, digest: str) -> str | None:
        """The SHA-256 of the artifact that `digest` built, by whomever; None where nobody has."""
        said = self._get(f"builds/{digest[:2]}/{digest}", _RECORD)
        return said.decode("ascii", "replace").strip() if said else None

    def fetch(self, digests: Sequence[str], store: Store) -> bool:
        """Bring what these digests built into a machine's store; whether the last one was built.

        Raises PerfError where the bytes are not what their SHA-256 says.
        """
        there = False
        for digest in digests:
            sha256 = self.lookup(digest)
            there = sha256 is not None and (store.has(sha256) or self.fetch_artifact(sha256, store))
            if there and sha256 is not None:
                store.record(digest, sha256)
        return there

    def fetch_artifact(self, sha256: str, store: Store) -> bool:
        """Bring an artifact, and its sheet, into a machine's store; False where it is not there. Raises
        PerfError where its bytes are not what its SHA-256 says."""
        key = f"artifacts/{sha256[:2]}/{sha256}.safetensors"
        data = self._get(key, LARGEST)
        if data is None:
            return False
        if hashlib.sha256(data).hexdigest() != sha256:
            raise PerfError(
                "an artifact in the shared store is damaged: its bytes do not match its hash",
                where=f"{self.address}, {key}",
                hint="remove the file; what it was built of is built again",
            )
        store.put(data)
        sheet = self._get(f"sheets/{sha256[:2]}/{sha256}.jpg", LARGEST)
        if sheet:
            store.put_sheet(sha256, sheet)
        return True

    def give(self, digests: Sequence[str], store: Store) -> bool:
        """Share what these digests built on this machine: bytes first, records last. False where the last one
        was built by another machine meanwhile, to other bytes, which stay."""
        first = True
        for digest in digests:
            sha256 = store.lookup(digest)
            if sha256 is None:
                continue
            self.give_artifact(sha256, store)
            key = f"builds/{digest[:2]}/{digest}"
            made = self._bucket.create(key, f"{sha256}\n".encode())
            first = made or self.lookup(digest) == sha256
        return first

    def give_artifact(self, sha256: str, store: Store) -> None:
        """Share an artifact of this machine's store, and its sheet."""
        self._bucket.create(f"artifacts/{sha256[:2]}/{sha256}.safetensors", store.get(sha256))
        with suppress(FileNotFoundError):
            sheet = store.sheet_path(sha256).read_bytes()
            self._bucket.create(f"sheets/{sha256[:2]}/{sha256}.jpg", sheet)

    def checkpoint(self, digest: str) -> bytes | None:
        """The newest checkpoint of an unfinished build; None where there is none."""
        return self._get(f"work/{digest}/checkpoint", LARGEST) or None

    def put_checkpoint(self, digest: str, data: bytes) -> None:
        """Keep a checkpoint in the place of the one before. Of two machines at once, one wins."""
        key = f"work/{digest}/checkpoint"
        before = self._bucket.get(key, limit=LARGEST)
        if before is None:
            if data:
                self._bucket.create(key, data)
        elif not isinstance(before, NotModified) and before.data != data:
            self._bucket.replace(key, data, before.tag)

    def put_file(self, path: Path, sha256: str) -> None:
        """Share a file, if nobody has yet."""
        if self._is_whole(sha256):
            return
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for number in range(_pieces(path.stat().st_size)):
                piece = file.read(PIECE)
                digest.update(piece)
                self._bucket.create(_file(sha256, str(number)), piece)
        if digest.hexdigest() != sha256:
            raise PerfError("the file changed while it was shared", where=str(path), hint="run it again")
        self._bucket.create(_file(sha256, "whole"), f"{path.stat().st_size}\n".encode())

    def fetch_result(self, digest: str, out: Path) -> bool:
        """Bring the file that `digest` made, by whomever, to `out`; False where nobody has made it, or it is
        gone. Raises PerfError as `get_file` does."""
        said = self._get(_result(digest), _RECORD)
        if said is None:
            return False
        record = _read_record(said)
        if record is None:
            raise PerfError(
                "a record in the shared store is damaged",
                where=f"{self.address}, {_result(digest)}",
                hint="remove the file; what it names is made again",
            )
        if not self._is_whole(record[1]):
            return False
        self.get_file(record[1], int(record[2]), out)
        return True

    def give_result(self, digest: str, path: Path) -> bool:
        """Share the file that `digest` made on this machine: bytes first, its record last. False where
        another machine made one of other bytes meanwhile, which stays, unless it is gone."""
        sha256 = sha256_of(path)
        self.put_file(path, sha256)
        key, record = _result(digest), f"{sha256} {path.stat().st_size}\n".encode()
        if self._bucket.create(key, record):
            return True
        there = self._bucket.get(key, limit=_RECORD)
        if there is None or isinstance(there, NotModified) or there.data == record:
            return True
        named = _read_record(there.data)
        if named is not None and self._is_whole(named[1]):
            return False
        return self._bucket.replace(key, record, there.tag)

    def put_bytes(self, data: bytes) -> str:
        """Share bytes; returns their SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        for number in range(_pieces(len(data))):
            self._bucket.create(_file(sha256, str(number)), data[number * PIECE : (number + 1) * PIECE])
        self._bucket.create(_file(sha256, "whole"), f"{len(data)}\n".encode())
        return sha256

    def get_bytes(self, sha256: str) -> bytes:
        """What `put_bytes` shared. Raises PerfError where it is not there, or not what its SHA-256 says."""
        size = (self._get(_file(sha256, "whole"), _RECORD) or b"").strip()
        data = b"".join(self._read(sha256, int(size))) if size.isdigit() else None
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise self._lost(sha256)
        return data

    def get_file(self, sha256: str, size: int, out: Path) -> None:
        """Write a shared file to `out`, whole or not at all, whoever else does at the same time. Raises
        PerfError as `get_bytes` does, and where it cannot be written."""
        make_folder(out.parent)
        half, digest = out.with_name(f".{out.name}.{secrets.token_hex(8)}.half"), hashlib.sha256()
        try:
            with half.open("wb") as file:
                for piece in self._read(sha256, size):
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != sha256:
                raise self._lost(sha256)
            half.replace(out)
        except OSError as error:
            raise write_error(error, out) from error
        finally:
            half.unlink(missing_ok=True)

    def _read(self, sha256: str, size: int) -> Iterator[bytes]:
        """A shared file; what is not there is left out."""
        for number in range(_pieces(size)):
            yield from self._bucket.stream(_file(sha256, str(number)), limit=PIECE) or ()

    def _is_whole(self, sha256: str) -> bool:
        """Whether all pieces of a file were shared."""
        return self._get(_file(sha256, "whole"), _RECORD) is not None

    def _lost(self, sha256: str) -> PerfError:
        return PerfError(
            f"the shared store does not have {sha256[:12]} whole, which a task needs",
            where=f"{self.address}, {_file(sha256, '')}",
            hint="remove that folder and start the work again, which shares it anew",
        )

    def _get(self, key: str, limit: int) -> bytes | None:
        stored = self._bucket.get(key, limit=limit)
        return None if stored is None or isinstance(stored, NotModified) else stored.data


def _file(sha256: str, part: str) -> str:
    return f"files/{sha256[:2]}/{sha256}/{part}"


def _result(digest: str) -> str:
    return f"results/{digest[:2]}/{digest}"


def _read_record(said: bytes) -> re.Match[str] | None:
    """The SHA-256 and the size that the record of a result names; None where it is damaged."""
    return re.fullmatch(r"([0-9a-f]{64}) (\d+)\n", said.decode("ascii", "replace"))


def _pieces(size: int) -> int:
    """How many pieces a file of `size` bytes has; an empty one has one."""
    return max(1, -(-size // PIECE))
