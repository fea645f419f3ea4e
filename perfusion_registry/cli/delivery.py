"""What is printed arrives, or ends the command: a reader who has left, a disk that is full."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def delivered() -> Iterator[None]:
    """Inside, results are printed to stdout.

    Where its reader has left, as `| head -1` does, the command ends without a word, and with 1; where it
    cannot be written, with an error, and with 2.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # which it is where it was closed
                sys.stdout.flush()
        return
    except BrokenPipeError:
        code = 1
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        print(f"error: Cannot write the result: {error.strerror}\n   at  standard output", file=sys.stderr)
        code = 2
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
    sys.exit(code)
