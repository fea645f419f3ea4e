"""An order sent to a cluster as a Ray job: led there, told of here."""

from __future__ import annotations

import asyncio
import json
import pickle
import shlex
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

from perfusion_registry.cluster.address import ClusterAddress
from perfusion_registry.cluster.connection import require_ray
from perfusion_registry.cluster.driver import Event
from perfusion_registry.cluster.shared_store import SharedStore
from perfusion_registry.cluster.tasks import Order, Outcome
from perfusion_registry.errors import PerfError

MARK = "perf-event: "
"""How a line of a job's output begins that is an event."""
_SHOWN = 8
_PATIENCE = 30.0  # seconds for a job to end that is told to, and for a cluster to take one


@contextmanager
def sent(cluster: ClusterAddress, order: Order) -> Iterator[Generator[Event]]:
    """The events of an order that a job leads on the cluster. Left early, the job is stopped; one whose
    sender ends without a word goes on, and what it does is found by the next.

    Raises PerfError where the cluster cannot be reached, and where the job fails.
    """
    require_ray()
    assert order.shared_store is not None
    address = order.shared_store
    digest = SharedStore(address).put_bytes(pickle.dumps(order))
    client = _client(cluster.on)
    command = f"python -m perfusion_registry.cluster {shlex.quote(address)} {digest}"
    with _reaching(cluster.on):
        name = _submitted(client, command)
    try:
        with closing(_events(client, name, cluster.on)) as events:
            yield events
    finally:
        _stop(client, name)


def _submitted(client: Any, command: str) -> str:
    """The name of the job. A cluster that has just been started takes none for some seconds."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return str(client.submit_job(entrypoint=command))
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(1.0)


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    with _reaching(address):
        return JobSubmissionClient(address)


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, RuntimeError, OSError) as error:
        raise PerfError(
            "the cluster does not take the job: " + (str(error).strip().splitlines() or ["no answer"])[0],
            where=f"--on {address}",
            hint="its head takes jobs at port 8265, from elsewhere if it was started with --dashboard-host",
        ) from error


def _events(client: Any, name: str, address: str) -> Generator[Event]:
    """What the job prints, until it ends. Raises PerfError where it ends otherwise than done."""
    loop, seen = asyncio.new_event_loop(), 0
    rest: deque[str] = deque(maxlen=_SHOWN)
    try:
        while True:
            before, line_number, half = seen, 0, ""
            lines = client.tail_job_logs(name)
            with suppress(StopAsyncIteration, ConnectionError, OSError, RuntimeError):
                while True:
                    half += loop.run_until_complete(anext(lines))
                    *whole, half = half.split("\n")
                    for line in whole:
                        line_number += 1
                        if line_number <= before:  # told before the connection broke off
                            continue
                        seen = line_number
                        if line.startswith(MARK):
                            yield read_event(line)
                        elif line.strip():
                            rest.append(line)
            with _reaching(address):
                status = client.get_job_status(name)
            if status.is_terminal():
                break
            time.sleep(1.0)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    if str(status) != "SUCCEEDED":
        with _reaching(address):
            said = client.get_job_info(name).message or ""
        last = "\n".join([*rest, said]).strip()
        raise PerfError(
            f"the job {name} ended as {str(status).lower()}: {last}",
            where=f"--on {address}",
            hint=f"`ray job logs {name} --address {address}` shows all of it; what is done stays done",
        )


def _stop(client: Any, name: str) -> None:
    """Stop a job that has not ended, and wait until it has."""
    with suppress(RuntimeError, OSError):
        if client.get_job_status(name).is_terminal():
            return
        client.stop_job(name)
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and not client.get_job_status(name).is_terminal():
            time.sleep(0.2)


def written_event(event: Event) -> str:
    """An event as a line of a job's output."""
    told, ended = event
    return MARK + json.dumps(
        {"told": told, "ended": {number: outcome.dumped() for number, outcome in ended.items()}}
    )


def read_event(line: str) -> Event:
    """The event of such a line."""
    said = json.loads(line.removeprefix(MARK))
    ended = {int(number): Outcome.loaded(text) for number, text in said["ended"].items()}
    return [tuple(one) for one in said["told"]], ended
