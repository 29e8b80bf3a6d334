"""Replace a batch: its changes are landed anew, as further batches of the same interval, and nobody reads it any more.

Batches never change, so what was landed wrongly gets successors: of the same ``changed_at`` interval, under numbers of their
own, recorded in the transaction in which the former batch is retracted. Each change is in force once: what other batches of
the same landing hold stays theirs. No landing and no other replacement of the source is recorded meanwhile.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perennial.core.trials import conformed
from perennial.errors import RequestError, StoreError
from perennial.resources import Resources
from perennial.shell import lake, postgres_source
from perennial.shell.database import Connection, connect, fetch, fetch_one, run, transaction
from perennial.spec import QUARANTINE_BATCH, REMOVED, UNKNOWN_COUNTRY, FileSource, Source
from perennial.steps.decisions import batch_of, name_of, note, short_name
from perennial.steps.landing import Batches, by_country, country_of
from perennial.steps.places import key_index, moved_here, note_places, overtaken, with_moves, with_rows

logger = logging.getLogger(__name__)

TABLE_ROWS = 100_000


def extract_anew(resources: Resources, source: Source, country: str, seq: int, person: str, reason: str) -> list[Any]:
    """Read a batch's interval from its table once more; returns the batches that replace it, landed and not validated.

    For a batch that is held or was retracted: its rows were mended without a new ``changed_at``, or its object is lost.
    Raises RequestError for any other batch, for a source of files, and where the table holds none of its changes any more.
    """
    if isinstance(source, FileSource):
        raise RequestError(
            f"Source {source.name} is made of files: write the file anew, mended, under its name, and it replaces its former "
            "rows; as it is, it lands anew under another name. Where the spec was wrong and not the file, validate it again."
        )
    with closing(connect(resources.database)) as database:
        key_index(resources, database, source)
        with transaction(database):
            batch = _retired(database, source, country, seq, "extract again", person, reason)
            others, unread = _landed_beside(resources, database, source, batch)
            with postgres_source.connected(resources.source_dsn(source.connection), source) as connection:
                tables = postgres_source.extract(connection, source, batch.lower, batch.upper)
                gone: list[pa.Table] = []
                stays = _without(database, tables, source, batch, others, unread, gone)
                made = _land(resources, database, source, batch, ((None, table) for table in stays), gone)
            if not made:
                raise RequestError(
                    f"The table of source {source.name} holds no change of batch {country} {seq} any more. It stays."
                )
    logger.warning("%s/%s %s was extracted again by %s: %s", source.name, country, seq, person, _names(made))
    return made


def assign_anew(resources: Resources, source: Source, seq: int, person: str, reason: str) -> list[Any]:
    """Give the rows of a batch of unknown countries to those that the spec knows by now; returns the batches that replace it.

    None, and nothing is changed, where it still knows none of them, or the batch cannot be read.
    """
    with closing(connect(resources.database)) as database:
        if not isinstance(source, FileSource):
            key_index(resources, database, source)
        with transaction(database):
            batch = fetch_one(database, "batch_of", source=source.name, country=UNKNOWN_COUNTRY, seq=seq)
            try:
                values = countries_in(resources, source, batch)
            except (StoreError, pa.ArrowInvalid):
                return []
            if not any(country_of(source, value) != UNKNOWN_COUNTRY for value in values):
                return []
            batch = _retired(database, source, UNKNOWN_COUNTRY, seq, "validate again", person, reason)
            made = _land(resources, database, source, batch, _assigned(resources, database, source, batch), [])
    logger.info("%s/%s %s was given to the countries of its rows: %s", source.name, UNKNOWN_COUNTRY, seq, _names(made))
    return made


def countries_in(resources: Resources, source: Source, batch: Any) -> dict[Any, int]:
    """What a batch's country column says, and in how many rows, the commonest first. Raises StoreError."""
    file = lake.open_batch(resources.store, batch.object_key, batch.sha256)
    if source.country not in file.schema_arrow.names:
        raise StoreError(f"{resources.store.url}/{batch.object_key} has no column {source.country}.")
    values = file.read(columns=[source.country], use_threads=False)[0].to_pandas()
    counts = values.astype(object).where(values.notna(), None).value_counts(dropna=False)
    return {None if pd.isna(value) else value: int(number) for value, number in counts.items()}


def _retired(database: Connection, source: Source, country: str, seq: int, decision: str, person: str, reason: str) -> Any:
    """The batch, taken out of use, while nobody else lands or replaces anything of the source."""
    fetch_one(database, "lock_landing", source=source.name)
    batch = batch_of(database, source.name, country, seq)
    name = name_of(batch)
    if batch.replaced_by:
        raise RequestError(f"Batch {name} was replaced by {batch.replaced_by} already.")
    said = f"Replaced ({decision}) by {person}: {reason}. {batch.reason}".strip()
    if run(database, "retire_batch", source=source.name, country=country, seq=seq, reason=said) != 1:
        raise RequestError(f"Batch {name} is {batch.state}. Retract it first: that says which versions were trained on it.")
    note(database, batch, decision, person, reason)
    return batch


def _landed_beside(resources: Resources, database: Connection, source: Source, batch: Any) -> tuple[pd.DataFrame, set[str]]:
    """The changes that other batches of the same landing hold, and the countries of those that cannot be read."""
    named = {"source": source.name, "country": batch.country, "seq": batch.seq}
    identity = [*source.key, source.changed_at]
    held, unread = [lake.schema_of(source).empty_table().select(identity)], set()
    for other in fetch(database, "landed_beside", **named, lower=batch.lower, upper=batch.upper):
        try:
            file = lake.open_batch(resources.store, other.object_key, other.sha256)
            held.append(_own_changes(file, source, other.country).select(identity).cast(held[0].schema))
        except (StoreError, pa.ArrowInvalid) as error:
            logger.warning("What batch %s %s holds is taken to be all rows of its country: %s", other.country, other.seq, error)
            unread.add(other.country)
    return pa.concat_tables(held).drop_null().to_pandas().drop_duplicates(), unread


def _own_changes(file: pq.ParquetFile, source: Source, country: str) -> pa.Table:
    """The rows of a batch without those that have left its country: another batch holds their change."""
    names = [*source.key, source.changed_at, source.country]
    tables = [*lake.tables(file, TABLE_ROWS, [*dict.fromkeys(names), REMOVED])]
    rows = pa.concat_tables(tables)
    elsewhere = np.array([country_of(source, value) != country for value in rows[source.country].to_pylist()], dtype=bool)
    return rows.filter(pa.array(~(elsewhere & rows[REMOVED].to_numpy().astype(bool))))


def _without(
    database: Connection, tables: Iterable[pa.Table], source: Source, batch: Any, others: pd.DataFrame, unread: set[str],
    gone: list[pa.Table],
) -> Iterator[pa.Table]:  # fmt: skip
    """The rows of some tables that no other batch holds. One without a key cannot be told, and is its country's.

    ``gone`` gets those of the others whose key the batch's country has had, as removed from it.
    """
    for table in tables:
        countries = np.array([country_of(source, value) for value in table[source.country].to_pylist()], dtype=object)
        identity, stays = table.select(list(others.columns)), countries == batch.country
        told = np.logical_and.reduce([column.is_valid().to_numpy() for column in identity.columns])
        sides = identity.filter(pa.array(told)).to_pandas().merge(others, how="left", indicator="side")
        stays[told] = (sides["side"] == "left_only").to_numpy() & ~np.isin(countries[told], sorted(unread))
        held = ~stays.astype(bool)
        others_rows = lake.marked(table.filter(pa.array(held)), source)
        gone.append(moved_here(database, source, batch.country, others_rows, countries[held]))
        yield table.filter(pa.array(stays.astype(bool)))


def _assigned(resources: Resources, database: Connection, source: Source, batch: Any) -> Iterator[tuple[str | None, pa.Table]]:
    """A batch's rows by the countries of today; as removed where their key has been changed later in another country."""
    for table in _stored(resources, source, batch):
        for country, rows in by_country(table, source):
            if country != UNKNOWN_COUNTRY and not isinstance(source, FileSource):
                late = overtaken(resources, database, source, batch, country, rows)
                removed = pa.array(late | rows[REMOVED].to_numpy().astype(bool))
                yield country, rows.set_column(rows.column_names.index(REMOVED), REMOVED, removed)
            else:
                yield country, rows


def _stored(resources: Resources, source: Source, batch: Any) -> Iterator[pa.Table]:
    file, wanted = lake.open_batch(resources.store, batch.object_key, batch.sha256), lake.schema_of(source)
    for finding in conformed(file.schema_arrow, wanted):
        if finding.severity == QUARANTINE_BATCH:
            raise RequestError(f"Batch {source.name}/{batch.country} {batch.seq} is from before the spec's change: {finding}.")
    for table in lake.tables(file, TABLE_ROWS, wanted.names):
        yield table.cast(wanted)


def _land(
    resources: Resources, database: Connection, source: Source, batch: Any, tables: Iterable[tuple[str | None, pa.Table]],
    gone: list[pa.Table],
) -> list[Any]:  # fmt: skip
    """Store rows, of a country or by country, and record them in the batch's place; ``gone``: what has left its country."""
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        batches, made = Batches(source, Path(folder)), []
        for country, table in tables:
            if country is None:
                batches.write(table)
            elif table.num_rows:
                batches.write_country(country, table)
        files, places = with_moves(resources, database, source, batches.close())
        note_places(database, source, places)
        removed = pa.concat_tables([lake.schema_of(source).empty_table(), *gone])
        if removed.num_rows:
            files[batch.country] = with_rows(files.get(batch.country), Path(folder) / "gone", source, removed)
        for country, file in sorted(files.items()):
            key = f"lake/{source.name}/{country}/{file.sha256}.parquet"
            resources.store.put_file(key, file.path)
            made += fetch(
                database, "replace_batch", source=source.name, country=country, rows=file.rows, event_min=file.event_min,
                event_max=file.event_max, object_key=key, sha256=file.sha256, size=file.size,
                replaced_country=batch.country, replaced_seq=batch.seq,
            )  # fmt: skip
    return made


def _names(batches: Iterable[Any]) -> str:
    return ", ".join(f"{short_name(batch)} ({batch.rows:,} rows)" for batch in batches)
