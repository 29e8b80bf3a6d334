"""Up to where a table may be landed: behind everything that a transaction can still commit, and who keeps it there.

A row's ``changed_at`` is no earlier than the start of the transaction that wrote it, less ``max_commit_lag``. So a landing
ends before the start of every transaction that is open. Of a prepared one only the end of its first half is on record. At a
look before that it was an open session, or had not begun: what bounded the sessions then bounds it, and where no such look
is remembered, the landing stays where it is.

A hot standby does not show its primary's transactions. They are asked of the primary, and the standby is read once it
shows all that they leave behind.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from perennial.errors import NothingToDo, SourceMismatch
from perennial.resources import Resources
from perennial.shell import postgres_source
from perennial.shell.database import Connection, run
from perennial.shell.postgres_source import Look, OpenTransaction
from perennial.spec import Source

logger = logging.getLogger(__name__)

WORTH_A_WARNING = timedelta(minutes=1)
JITTER = timedelta(seconds=1)  # between the looks at two clocks


@dataclass(frozen=True, kw_only=True)
class Bound:
    """No row that commits from now on has a ``changed_at`` before ``upper``. ``holder``: who keeps it behind the clock."""

    upper: datetime
    clock: datetime
    holder: OpenTransaction | None = None

    def said(self, lower: datetime) -> str:
        """Who holds the rows back, and for how long they have waited; empty where nobody does."""
        if self.holder is None:
            return ""
        since = f"{self.holder.since:%Y-%m-%d %H:%M:%S} UTC, {_span(self.clock - self.holder.since)} ago"
        what = "prepared" if self.holder.is_prepared else "open"
        return (
            f"{self.holder.who} has been {what} since {since}, and may still commit rows of that time: "
            f"what changed after {max(self.upper, lower):%Y-%m-%d %H:%M:%S} UTC waits for its end"
        )

    def behind(self, lower: datetime, lag: timedelta) -> timedelta:
        """By how much a landing from ``lower`` stays behind the clock, less ``max_commit_lag``, or the clock behind it."""
        if self.holder is None:
            return max(lower - self.upper, timedelta(0))
        return self.clock - lag - max(self.upper, lower)

    def why_behind(self, lower: datetime) -> str:
        """Who or what keeps rows back."""
        behind = _span(lower - self.upper)
        return self.said(lower) or (
            f"the source's clock is {behind} behind what has landed already: it was set back, or max_commit_lag was raised. "
            "Nothing is landed until it has caught up"
        )


def look_at(resources: Resources, source: Source, connection: Any) -> Look:
    """What may still be committed to the rows that a connection shows.

    Raises SourceMismatch where that cannot be known, NothingToDo while a standby is behind.
    """
    if not postgres_source.is_standby(connection):
        return postgres_source.look(connection, source)
    if not source.primary:
        raise SourceMismatch(
            f"Source {source.name} is read from a hot standby, which does not show the transactions that are open on its "
            f'primary: rows that commit late would be lost. Add primary="…" to {source.where}, the name of a Connection to '
            f"the primary whose role may connect and has pg_read_all_stats, or let {source.connection} lead to the primary. "
            "Nothing was landed."
        )
    with postgres_source.connected(resources.source_dsn(source.primary), source, source.primary) as primary:
        if postgres_source.is_standby(primary):
            raise SourceMismatch(
                f"Source {source.name}: connection {source.primary} leads to a standby, too. Name the primary's. Nothing was "
                "landed."
            )
        found = postgres_source.look(primary, source, source.primary, with_lsn=True)
    missing = postgres_source.await_replay(connection, source, found)
    if missing:
        logger.warning("%s: nothing is landed, %s.", source.name, missing)
        raise NothingToDo(f"Source {source.name} has landed nothing: {missing}.")
    return found


def bound_of(look: Look, source: Source, state: Any) -> Bound:
    """The safe bound of a look, given what the registry remembers of the one before (``cursor_state``)."""
    lag = source.max_commit_lag
    ends: list[tuple[datetime, OpenTransaction | None]] = [(look.clock - lag, None)]
    if look.session:
        ends.append((look.session.since - lag, look.session))
    if look.prepared:
        ends.append((_prepared_bound(look, look.prepared, source, state), look.prepared))
    upper, holder = min(ends, key=lambda end: end[0])
    return Bound(upper=upper, clock=look.clock, holder=holder)


def _prepared_bound(look: Look, prepared: OpenTransaction, source: Source, state: Any) -> datetime:
    is_same_server = look.server != "" and state.server == look.server
    if is_same_server and state.seen_at and state.seen_at < prepared.since:
        bound: datetime = state.open_since - source.max_commit_lag
        return bound
    return rechecked_from(look, source, state) or state.position  # type: ignore[no-any-return]


def set_back(look: Look, source: Source, state: Any) -> timedelta:
    """By how much the source's clock has been set back since the last look, or its server replaced by one that is behind.

    Zero for what ``max_commit_lag`` covers. The registry's clock is what both are compared with; where the two are one, only
    that the source's clock is behind its own past is seen.
    """
    if state.seen_at is None:
        return timedelta(0)
    found = max(state.ahead - (look.clock - state.now), state.seen_at - look.clock)
    return found if found > max(source.max_commit_lag / 2, JITTER) else timedelta(0)


def rechecked_from(look: Look, source: Source, state: Any) -> datetime | None:
    """From where on rows behind the cursor may have been written since their time was landed; None: nowhere."""
    starts = [state.recheck_from] if state.recheck_from else []
    if back := set_back(look, source, state):
        starts.append(state.seen_at - back - source.max_commit_lag - JITTER)
    start: datetime | None = min(starts, default=None)
    return start if start and start < state.position else None


def remember(database: Connection, source: Source, look: Look, state: Any) -> datetime | None:
    """Record a look, and say what has changed since the one before; returns from where on rows are looked for again."""
    again_from = rechecked_from(look, source, state)
    if back := set_back(look, source, state):
        logger.error(
            "%s: the source's clock is %s behind where it was, or its server was replaced by one whose clock is. Rows that it "
            "has dated before %s since then are looked for and landed late. Let its clock keep time (NTP).",
            source.name, _span(back), f"{state.position:%Y-%m-%d %H:%M:%S} UTC",
        )  # fmt: skip
    if state.server not in ("", look.server):
        logger.warning(
            "%s: server %s answers in the place of %s (system identifier/timeline), after a fail-over or from a backup. What "
            "the former one had committed and this one does not have stays in the lake.", source.name, look.server, state.server
        )  # fmt: skip
    oldest = min(look.clock, look.session.since if look.session else look.clock)
    run(
        database, "remember_look", source=source.name, server=look.server, seen_at=look.seen_at, open_since=oldest,
        ahead=look.clock - state.now, recheck_from=again_from,
    )  # fmt: skip
    return again_from


def warn_of_holder(source: Source, bound: Bound, lower: datetime) -> None:
    """Log who holds rows back, as a warning where they have waited for a while or nothing can be landed at all."""
    if bound.holder is None:
        return
    is_long = bound.clock - bound.holder.since > WORTH_A_WARNING or bound.upper <= lower
    logger.log(
        logging.WARNING if is_long else logging.INFO, "%s: %s. It is %s behind.",
        source.name, bound.said(lower), _span(bound.clock - max(bound.upper, lower)),
    )  # fmt: skip


def _span(length: timedelta) -> str:
    return str(timedelta(seconds=round(length.total_seconds())))
