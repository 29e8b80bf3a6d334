"""Ingest: land what changed in a source since the cursor, validate what is landed, say what was accepted."""

import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perennial.errors import NothingToDo
from perennial.resources import Resources
from perennial.shell import lake, postgres_source
from perennial.shell.database import Connection, Json, connect, fetch, run
from perennial.spec import FileSource, Source
from perennial.steps.land_files import land_files
from perennial.steps.landing import UNKNOWN_COUNTRY, Batches, Landing, cursor_of, record

logger = logging.getLogger(__name__)


def land(resources: Resources, source: Source) -> dict[str, int]:
    """Land every change of the next interval, one batch per country; returns rows by country.

    The batches and the cursor's move are one transaction, after their objects are stored. Raises NothingToDo when the
    source holds no new row.
    """
    if isinstance(source, FileSource):
        return land_files(resources, source)
    database = connect(resources.database)
    try:
        with postgres_source.connected(resources.source_dsn(source.connection), source) as connection:
            upper, clock = postgres_source.safe_bound(connection, source)
            lower = cursor_of(database, source, clock)
            if upper <= lower:  # the spec's max_commit_lag has grown, or the source's clock was set back
                raise NothingToDo(f"Source {source.name} has landed up to {lower:%Y-%m-%d %H:%M:%S} UTC already.")
            with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
                batches = Batches(source, Path(folder))
                for table in postgres_source.extract(connection, source, lower, upper):
                    batches.write(table)
                landing = Landing(lower=lower, upper=upper, clock=clock, batches=batches.close())
                rows = record(resources, database, source, landing)
    finally:
        database.close()
    if not rows:
        raise NothingToDo(f"Source {source.name} has no new row up to {upper:%Y-%m-%d %H:%M:%S} UTC.")
    logger.info("%s: landed %s rows of %s countries", source.name, sum(rows.values()), len(rows))
    return rows


def validate(resources: Resources, source: Source) -> dict[str, int]:
    """Accept or quarantine every landed batch of the source; returns how many of each.

    A validation that cannot run counts as failed for the batch it was about. Raises NothingToDo without landed batches.
    """
    from perennial.core.expectations import Suite

    database = connect(resources.database)
    try:
        landed = fetch(database, "undecided_batches", source=source.name)
        if not landed:
            raise NothingToDo(f"Source {source.name} has no landed batch to validate.")
        suite = Suite(source)
        states = [_validate_batch(resources, database, source, batch, suite) for batch in landed]
    finally:
        database.close()
    return {state: states.count(state) for state in ("accepted", "quarantined")}


def _validate_batch(resources: Resources, database: Connection, source: Source, batch: Any, suite: Any) -> str:
    reason, report = _fault_of(resources, source, batch, suite)
    state = "quarantined" if reason else "accepted"
    run(
        database, "decide_batch", source=batch.source, country=batch.country, seq=batch.seq, state=state, reason=reason,
        report=Json(report),
    )  # fmt: skip
    log = logger.warning if reason else logger.info
    log("%s/%s batch %s, %s rows: %s. %s", batch.source, batch.country, batch.seq, batch.rows, state, reason)
    return state


def _fault_of(resources: Resources, source: Source, batch: Any, suite: Any) -> tuple[str, list[dict[str, Any]]]:
    if batch.country == UNKNOWN_COUNTRY:
        return f"Countries unknown to the source: add them to countries at {source.where}.", []
    try:
        file = lake.open_batch(resources.store, batch.object_key, batch.sha256)
        findings = suite.findings(lake.chunks(file))
    except Exception as error:
        logger.exception("%s/%s batch %s could not be validated", batch.source, batch.country, batch.seq)
        return f"The validation could not run: {type(error).__name__}: {error}", []
    failed = [str(finding) for finding in findings if not finding.success]
    return "; ".join(failed), [asdict(finding) for finding in findings]


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
