"""Which rows a file that comes again under its name no longer holds.

A row is vanished in a country when a former revision of the file landed its key there, the new one does not, and no other
file has landed the key there since. What an accepted batch says is removed is not removed again, and its rejected rows count
for nothing: they were never read.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perennial.resources import Resources
from perennial.shell.database import Connection, fetch
from perennial.shell.lake import open_batch, schema_of
from perennial.spec import REMOVED, FileSource
from perennial.steps.landing import by_country


def vanished_rows(
    resources: Resources, database: Connection, source: FileSource, name: str, rows: Path
) -> Iterator[tuple[str, pa.Table]]:
    """By country, the latest landed rows of a file's former revisions that ``rows``, its new revision, lacks.

    Memory holds the keys of the new revision and, of one country, the rows that vanish.
    """
    intervals = fetch(database, "intervals_of_file", source=source.name, name=name)
    batches = fetch(database, "batches_since", source=source.name, since=intervals[0].lower)
    keys = _keys_by_country(source, rows)
    for country, ledger in groupby(batches, key=lambda batch: batch.country):
        vanished = _vanished(resources, source, list(ledger), intervals, keys.get(country))
        if vanished.num_rows:
            yield country, vanished


def _keys_by_country(source: FileSource, rows: Path) -> dict[str, pd.DataFrame]:
    parts: dict[str, list[pd.DataFrame]] = {}
    with pq.ParquetFile(rows, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=[*source.key, source.country], use_threads=False)
            for country, part in by_country(table, source):
                parts.setdefault(country, []).append(part.select(list(source.key)).to_pandas())
    return {country: pd.concat(part).drop_duplicates() for country, part in parts.items()}


def _vanished(
    resources: Resources, source: FileSource, ledger: list[Any], intervals: list[Any], kept: pd.DataFrame | None
) -> pa.Table:
    """Of one country: the file's own latest rows, less kept ones, removed ones, and those that another file has since."""
    own = [schema_of(source).empty_table()]
    for batch, table in _chunks(resources, source, ledger):
        mine = _within(table[source.changed_at], intervals)
        told = ~table[REMOVED].to_numpy() | (batch.state == "accepted")
        chosen = table.filter(pa.array(mine & told))
        own.append(chosen.filter(pa.array(~_is_among(chosen, kept, source))))
    latest = _latest(pa.concat_tables(own), source)
    gone = latest.filter(pa.array(~latest[REMOVED].to_numpy()))
    return gone.filter(pa.array(~_held_by_others(resources, source, ledger, intervals, gone)))


def _held_by_others(
    resources: Resources, source: FileSource, ledger: list[Any], intervals: list[Any], gone: pa.Table
) -> np.ndarray[Any, Any]:
    """Which rows have a later revision from another file, in a batch that is read."""
    held = np.zeros(gone.num_rows, dtype=bool)
    frame = gone.select([*source.key, source.changed_at]).to_pandas()
    for batch, table in _chunks(resources, source, ledger if gone.num_rows else []):
        if batch.state in ("landed", "accepted"):
            others = ~_within(table[source.changed_at], intervals) & ~table[REMOVED].to_numpy()
            later = table.filter(pa.array(others)).select([*source.key, source.changed_at]).to_pandas()
            newest = later.groupby(list(source.key), as_index=False)[source.changed_at].max()
            both = frame.merge(newest, on=list(source.key), how="left", suffixes=("", "_later"))
            held |= (both[f"{source.changed_at}_later"] > both[source.changed_at]).to_numpy()
    return held


def _chunks(resources: Resources, source: FileSource, ledger: list[Any]) -> Iterator[tuple[Any, pa.Table]]:
    """Batches of a country, row group by row group, in the spec's columns of today."""
    schema = schema_of(source)
    for batch in ledger:
        file = open_batch(resources.store, batch.object_key, batch.sha256)
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            columns = [
                table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
                for field in schema
            ]
            yield batch, pa.table(columns, schema=schema)


def _within(moments: pa.ChunkedArray, intervals: list[Any]) -> np.ndarray[Any, Any]:
    values = moments.to_pandas()
    inside = np.zeros(len(values), dtype=bool)
    for interval in intervals:
        inside |= ((values >= interval.lower) & (values < interval.upper)).to_numpy()
    return inside


def _is_among(table: pa.Table, keys: pd.DataFrame | None, source: FileSource) -> np.ndarray[Any, Any]:
    if keys is None:
        return np.zeros(table.num_rows, dtype=bool)
    sides = table.select(list(source.key)).to_pandas().merge(keys, how="left", on=list(source.key), indicator="side")
    among: np.ndarray[Any, Any] = (sides["side"] == "both").to_numpy()
    return among


def _latest(table: pa.Table, source: FileSource) -> pa.Table:
    frame = table.select([*source.key, source.changed_at]).to_pandas()
    newest = frame.sort_values(source.changed_at, kind="stable").drop_duplicates(list(source.key), keep="last")
    return table.take(pa.array(newest.index.to_numpy()))
