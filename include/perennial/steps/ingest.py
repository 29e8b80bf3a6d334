"""Ingest: land what changed in a source since the cursor, say what was accepted."""

import logging
import tempfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from perennial.errors import NothingToDo
from perennial.resources import Resources
from perennial.shell import postgres_source
from perennial.shell.database import connect, fetch, fetch_one, run
from perennial.spec import FileSource, Source
from perennial.steps import bounds
from perennial.steps.batches import Batches
from perennial.steps.causes import note_behind, note_missing_replay, note_strays
from perennial.steps.land_files import land_files
from perennial.steps.landing import Landing, cursor_of, record
from perennial.steps.late import land_late
from perennial.steps.places import with_moves

logger = logging.getLogger(__name__)

UNINDEXED_EVERY = timedelta(days=1)


def land(resources: Resources, source: Source) -> dict[str, int]:
    """Land every change of the next interval, one batch per country; returns rows by country.

    The batches and the cursor's move are one transaction, after their objects are stored. Raises NothingToDo when the
    source holds no new row, or nothing but rows that somebody's open transaction keeps back.
    """
    if isinstance(source, FileSource):
        return land_files(resources, source)
    database = connect(resources.database)
    try:
        with postgres_source.connected(resources.source_dsn(source.connection), source) as connection:
            rows, bound = _land(resources, database, source, connection)
    finally:
        database.close()
    if not rows:
        raise NothingToDo(f"Source {source.name} has no new row up to {bound}.")
    logger.info("%s: landed %s rows of %s countries", source.name, sum(rows.values()), len(rows))
    return rows


def _land(resources: Resources, database: Any, source: Source, connection: Any) -> tuple[dict[str, int], str]:
    """Rows by country, and in words up to where they were landed and who keeps the rest back."""
    postgres_source.check_moments(connection, source)
    postgres_source.check_feed(connection, source)
    state = fetch_one(database, "cursor_state", source=source.name)  # right before the look: it compares two clocks
    look = _look(resources, database, source, connection, state)
    lower = cursor_of(database, source, look.clock)
    state = state or fetch_one(database, "cursor_state", source=source.name)
    bound = bounds.bound_of(look, source, state)
    _say_strays(database, connection, source, look.clock, state)
    bounds.warn_of_holder(source, bound, lower)
    note_behind(database, source, bound.behind(lower, source.max_commit_lag), f"{bound.why_behind(lower)}.")
    recheck_from = bounds.remember(database, source, look, state)
    end = min(bound.upper, lower)
    rows: Counter[str] = Counter()
    if recheck_from and recheck_from < end:
        rows.update(land_late(resources, database, source, connection, (recheck_from, end), look.clock))
    if bound.upper > lower:  # else max_commit_lag has grown, the clock was set back, or somebody's transaction is older
        rows.update(_land_interval(resources, database, source, connection, lower, bound))
    said = bound.said(lower)
    return dict(rows), f"{max(bound.upper, lower):%Y-%m-%d %H:%M:%S} UTC{': ' if said else ''}{said}"


def _look(resources: Resources, database: Any, source: Source, connection: Any, state: Any) -> postgres_source.Look:
    try:
        return bounds.look_at(resources, source, connection)
    except NothingToDo as missing:
        note_missing_replay(database, source, state, str(missing))
        raise


def _land_interval(
    resources: Resources, database: Any, source: Source, connection: Any, lower: datetime, bound: bounds.Bound
) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        batches = Batches(source, Path(folder))
        for reading in postgres_source.extract(connection, source, lower, bound.upper):
            batches.add(reading)
        files, places = with_moves(resources, database, source, batches)
        landing = Landing(lower=lower, upper=bound.upper, clock=bound.clock, batches=files, places=places)
        return record(resources, database, source, landing)


def _say_strays(database: Any, connection: Any, source: Source, clock: datetime, state: Any) -> None:
    """Say how many rows no landing takes: at each ingest where an index finds them, else once a day."""
    is_indexed = postgres_source.is_indexed(connection, source)
    if not is_indexed and state.strays_at and state.now - state.strays_at < UNINDEXED_EVERY:
        return
    found = postgres_source.strays(connection, source, clock)
    undated, future = _undated(source, found), _future(source, found)
    for text in undated:
        logger.error("%s: %s", source.name, text)
    for text in future:
        logger.warning("%s: %s", source.name, text)
    note_strays(database, source, " ".join(undated), " ".join(future))
    run(database, "remember_strays", source=source.name)


def _undated(source: Source, found: postgres_source.Strays) -> list[str]:
    """Which rows are never landed, and what to do; empty where there are none."""
    never = (
        (found.undated, f"no {source.changed_at}"),
        (found.ancient, f"a {source.changed_at} before 1900"),
    )
    return [
        f"{_count(number)} rows of table {source.table} have {what}: they are of no interval and are never landed. "
        "Give them one of today, and let the table refuse others."
        for number, what in never
        if number
    ]


def _future(source: Source, found: postgres_source.Strays) -> list[str]:
    """Which rows wait for their time to come."""
    if not found.future:
        return []
    dated = f"have a {source.changed_at} in the future, the earliest {found.first_future}"
    return [f"{_count(found.future)} rows of table {source.table} {dated}: each waits until then."]


def _count(number: int) -> str:
    return f"{number:,}" if number < postgres_source.MOST_STRAYS else f"{number:,} or more"


def announce(resources: Resources, source: Source) -> list[str]:
    """Batches accepted since the last wake-up call, as ``country/seq``. Raises NothingToDo when there is none."""
    asset = f"{source.name} accepted"
    database = connect(resources.database)
    try:
        batches = fetch(database, "unannounced_batches", source=source.name, asset=asset)
        items = [f"{batch.country}/{batch.seq}" for batch in batches]
        if not items:
            raise NothingToDo(f"Source {source.name} has no newly accepted batch.")
        run(database, "announce", asset=asset, items=items)
    finally:
        database.close()
    return items
