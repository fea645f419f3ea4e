"""What a Ray job runs on the cluster: `python -m perfusion_registry.farm STORE ORDER`.

STORE: the address of the shared store. ORDER: the SHA-256 of the order there, as `jobs.sent` gave it. It
prints an event a line, for who sent it.
"""

from __future__ import annotations

import pickle
import signal
import sys
from contextlib import closing

from perfusion_registry.errors import PerfError
from perfusion_registry.farm.cluster import connected
from perfusion_registry.farm.driving import lead
from perfusion_registry.farm.jobs import written_event
from perfusion_registry.farm.shared_store import SharedStore
from perfusion_registry.farm.tasks import Order


def main(address: str, digest: str) -> int:
    """Lead the order on the cluster that this job is of; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # by which Ray stops a job
    try:
        order: Order = pickle.loads(SharedStore(address).get_bytes(digest))
        with connected("auto") as ray, closing(lead(ray, order)) as events:
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
