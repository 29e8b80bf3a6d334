"""Ingest: land what changed in a source since the cursor, say what was accepted."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from perennial.errors import NothingToDo
from perennial.resources import Resources
from perennial.shell import postgres_source
from perennial.shell.database import connect, fetch, run
from perennial.spec import FileSource, Source
from perennial.steps.land_files import land_files
from perennial.steps.landing import Batches, Landing, cursor_of, record
from perennial.steps.places import with_moves

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
            _check(connection, source)
            upper, clock = postgres_source.safe_bound(connection, source)
            lower = cursor_of(database, source, clock)
            if upper <= lower:  # the spec's max_commit_lag has grown, or the source's clock was set back
                raise NothingToDo(f"Source {source.name} has landed up to {lower:%Y-%m-%d %H:%M:%S} UTC already.")
            with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
                batches = Batches(source, Path(folder))
                for table in postgres_source.extract(connection, source, lower, upper):
                    batches.write(table)
                files, places = with_moves(resources, database, source, batches.close())
                landing = Landing(lower=lower, upper=upper, clock=clock, batches=files, places=places)
                rows = record(resources, database, source, landing)
    finally:
        database.close()
    if not rows:
        raise NothingToDo(f"Source {source.name} has no new row up to {upper:%Y-%m-%d %H:%M:%S} UTC.")
    logger.info("%s: landed %s rows of %s countries", source.name, sum(rows.values()), len(rows))
    return rows


def _check(connection: Any, source: Source) -> None:
    postgres_source.check_moments(connection, source)
    undated = postgres_source.undated_rows(connection, source)
    if undated:
        logger.error(
            "%s: %s rows of table %s have no %s: they are of no interval and are never landed. Give them one, and let the "
            "table refuse its lack.", source.name, f"{undated:,}", source.table, source.changed_at,
        )  # fmt: skip


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
