"""Ingest: land what changed in a source since the cursor, say what was accepted."""

import logging
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from perennial.errors import NothingToDo, RegistryError
from perennial.resources import Resources
from perennial.shell import postgres_source
from perennial.shell.database import Connection, connect, fetch, fetch_one, run, transaction
from perennial.shell.lake import BatchWriter, LandedFile
from perennial.spec import Source

logger = logging.getLogger(__name__)

UNKNOWN_COUNTRY = "ZZ"


def land(resources: Resources, source: Source) -> dict[str, int]:
    """Land every change of the next interval, one batch per country; returns rows by country.

    The batches and the cursor's move are one transaction, after their objects are stored. Raises NothingToDo when the
    source holds no new row.
    """
    database = connect(resources.database)
    try:
        with postgres_source.connected(resources.source_dsn(source.connection), source) as connection:
            upper, clock = postgres_source.safe_bound(connection, source)
            lower = _cursor(database, source, clock)
            if upper <= lower:  # the spec's max_commit_lag has grown, or the source's clock was set back
                raise NothingToDo(f"Source {source.name} has landed up to {lower:%Y-%m-%d %H:%M:%S} UTC already.")
            with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
                files = _write_batches(postgres_source.extract(connection, source, lower, upper), source, Path(folder))
                rows = _record(resources, database, source, files, lower, upper, clock)
    finally:
        database.close()
    if not rows:
        raise NothingToDo(f"Source {source.name} has no new row up to {upper:%Y-%m-%d %H:%M:%S} UTC.")
    logger.info("%s: landed %s rows of %s countries", source.name, sum(rows.values()), len(rows))
    return rows


def _cursor(database: Connection, source: Source, clock: datetime) -> datetime:
    run(database, "start_cursor", source=source.name, clock=clock)
    return fetch_one(database, "cursor_of", source=source.name).position  # type: ignore[no-any-return]


def _write_batches(tables: Iterator[pa.Table], source: Source, folder: Path) -> dict[str, LandedFile]:
    writers: dict[str, BatchWriter] = {}
    for table in tables:
        for country, part in _by_country(table, source):
            if country not in writers:
                writers[country] = BatchWriter(folder / f"{country}.parquet", source)
            writers[country].write(part)
    return {country: writer.close() for country, writer in writers.items()}


def _by_country(table: pa.Table, source: Source) -> Iterator[tuple[str, pa.Table]]:
    values = table[source.country]
    for value in pc.unique(values).to_pylist():
        chosen = pc.is_null(values) if value is None else pc.equal(values, value)
        yield source.countries.get(value, UNKNOWN_COUNTRY), table.filter(chosen)


def _record(
    resources: Resources, database: Connection, source: Source, files: dict[str, LandedFile],
    lower: datetime, upper: datetime, clock: datetime,
) -> dict[str, int]:  # fmt: skip
    keys = {country: f"lake/{source.name}/{country}/{file.sha256}.parquet" for country, file in files.items()}
    for country, file in files.items():
        resources.store.put_file(keys[country], file.path)
    with transaction(database):
        if run(database, "advance_cursor", source=source.name, lower=lower, upper=upper, clock=clock) != 1:
            raise RegistryError(f"Another landing of {source.name} was faster. Nothing of this one was recorded.")
        for country, file in files.items():
            run(
                database, "land_batch", source=source.name, country=country, lower=lower, upper=upper, rows=file.rows,
                event_min=file.event_min, event_max=file.event_max, object_key=keys[country], sha256=file.sha256,
                size=file.size,
            )  # fmt: skip
    return {country: file.rows for country, file in files.items()}


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
