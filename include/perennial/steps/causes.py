"""Causes on record: what a step finds wrong with a source, and that it is over."""

from datetime import timedelta
from typing import Any

from perennial.core.causes import FUTURE, HELD_BACK, MOST_REASON, UNDATED
from perennial.failures import cut, plain
from perennial.shell.database import Connection, run
from perennial.spec import Source

LONGEST_BEHIND = timedelta(hours=1)


def begin(database: Connection, source: Source, kind: str, reason: str, subject: str = "") -> bool:
    """Record that something is wrong; False where it is on record and not over."""
    said = plain(cut(reason, MOST_REASON))
    return bool(run(database, "begin_cause", source=source.name, kind=kind, subject=subject, reason=said))


def end(database: Connection, source: Source, kind: str, ending: str, subject: str | None = None) -> None:
    """Record that it is over, of one subject or of all; nothing where it never began."""
    said = plain(cut(ending, MOST_REASON))
    run(database, "end_causes", source=source.name, kind=kind, subject=subject, ending=said)


def note_strays(database: Connection, source: Source, undated: str, future: str) -> None:
    """Record which rows of a table no landing takes, in words; empty where there are none."""
    for kind, reason in ((UNDATED, undated), (FUTURE, future)):
        if reason:
            begin(database, source, kind, reason)
        else:
            end(database, source, kind, "There are no such rows any more.")


def note_behind(database: Connection, source: Source, behind: timedelta, why: str) -> None:
    """Record that a landing stays behind the source's clock for longer than an hour, or no more."""
    if behind > LONGEST_BEHIND:
        begin(database, source, HELD_BACK, why)
    else:
        end(database, source, HELD_BACK, "Nothing keeps rows back any more.")


def note_missing_replay(database: Connection, source: Source, state: Any, missing: str) -> None:
    """Record that a standby has been behind its primary since a look of more than an hour ago."""
    if state is None or state.seen_at is None:
        return
    last_look = state.seen_at - state.ahead
    if state.now - last_look > LONGEST_BEHIND:
        since = f"{last_look:%Y-%m-%d %H:%M} UTC"
        begin(database, source, HELD_BACK, f"Nothing was landed since {since}: {missing}.")
