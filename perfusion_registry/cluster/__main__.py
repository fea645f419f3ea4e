"""What a Ray job runs on the cluster: `python -m perfusion_registry.cluster STORE ORDER`.

STORE: the address of the shared store. ORDER: the SHA-256 of the order there, as `jobs.sent` gave it. It
prints an event a line, for who sent it.
"""

from __future__ import annotations

import pickle
import signal
import sys
from contextlib import closing

from perfusion_registry.cluster.connection import connected
from perfusion_registry.cluster.driver import drive
from perfusion_registry.cluster.jobs import written_event
from perfusion_registry.cluster.shared_store import SharedStore
from perfusion_registry.cluster.tasks import Order
from perfusion_registry.errors import PerfError


def main(address: str, digest: str) -> int:
    """Lead the order on the cluster that this job is of; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # by which Ray stops a job
    try:
        order: Order = pickle.loads(SharedStore(address).get_bytes(digest))
        with connected("auto") as ray, closing(drive(ray, order)) as events:
            for event in events:
                print(written_event(event), flush=True)
    except PerfError as error:
        print(error, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
