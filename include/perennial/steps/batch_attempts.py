"""Attempts at batches: recorded when they start, so that a batch that ends its process is known by what it left open.

A process may have several batches open, for they are judged together. Where it ended with one alone, that batch has ended
it; where with several, each of them is tried alone.
"""

import os
import secrets
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from perennial.resources import Resources
from perennial.shell.child import Line
from perennial.shell.database import Connection, connect, fetch, fetch_one, run

DEATHS_ALLOWED = 1
BatchKey = tuple[str, int]


def key_of(batch: Any) -> BatchKey:
    """A batch among those of its source."""
    return batch.country, batch.seq


def named(batch: Any) -> dict[str, Any]:
    """A batch as queries name it."""
    return {"source": batch.source, "country": batch.country, "seq": batch.seq}


def new_worker() -> str:
    """A name for a process that is to validate, known before it starts."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def begin(database: Connection, batch: Any, worker: str) -> Any | None:
    """What a batch has come to, its attempt begun if it may be: ``is_undecided``, ``deaths``, ``attempt``.

    None where another session is at it. Otherwise it is locked until ``release``. Asked in a statement after the lock's: what
    the lock's former holder has written is seen.
    """
    if not fetch_one(database, "lock_validation", **named(batch)).locked:
        return None
    return fetch_one(
        database,
        "start_batch_attempt",
        **named(batch),
        state=batch.state,
        worker=worker,
        deaths_allowed=DEATHS_ALLOWED,
    )


def release(database: Connection, batch: Any) -> None:
    """Let other sessions validate the batch."""
    run(database, "unlock_validation", **named(batch))


def suspects(resources: Resources, source: str) -> frozenset[BatchKey]:
    """The batches that were open in a process that ended."""
    with closing(connect(resources.database)) as database:
        found = fetch(database, "suspected_batches", source=source)
    return frozenset((row.country, row.seq) for row in found)


def note_death(resources: Resources, worker: str, ended: str) -> int:
    """Record how a process ended; returns how many batches it had open."""
    with closing(connect(resources.database)) as database:
        return run(database, "note_death", worker=worker, ended=ended)


def acquit(resources: Resources, worker: str, why: str) -> None:
    """Close what a process had open: none of it has ended the process."""
    with closing(connect(resources.database)) as database:
        run(database, "end_batch_attempts", worker=worker, ended=why)


@dataclass
class Watch:
    """Renews the time limit of a process whenever its work passes on to other batches."""

    line: Line
    at_work: frozenset[BatchKey] = field(default_factory=frozenset)

    def on(self, batches: Sequence[Any], limits: Sequence[timedelta]) -> None:
        """The process works on these batches now."""
        keys = frozenset(key_of(batch) for batch in batches)
        if keys != self.at_work:
            self.at_work = keys
            self.line.limit(max(limits).total_seconds())
