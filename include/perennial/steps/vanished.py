"""Which rows a file that comes again under its name no longer holds.

A row is vanished in a country when a former revision of the file landed its key there, the new one
does not, and no other file has landed the key there since. What an accepted batch says is removed
is not removed again, and its rejected rows count for nothing: they were never read.

However often a file comes, its last two landed revisions are read, and one object of rows that
still older ones may have in force: keys that another file holds now, and those whose newer row was
rejected. Where a person has decided about an older batch meanwhile, or that object is lost, the
revisions since are read once more.

Of other files those batches since then are opened that may hold a vanished key, as their key
filters tell.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perennial.core.key_filters import key_hashes, key_types, may_hold
from perennial.errors import StoreError
from perennial.resources import Resources
from perennial.shell.database import Connection, fetch, fetch_one
from perennial.shell.frames import plain_frame
from perennial.shell.lake import open_batch, open_rows, schema_of
from perennial.spec import REMOVED, FileSource
from perennial.steps.batches import by_country

logger = logging.getLogger(__name__)

Mask = npt.NDArray[np.bool_]
HOLDER, LANDED_IN = "accepted batch that holds it", "country of its batch"


@dataclass(kw_only=True)
class FormerRevisions:
    """What former revisions of a file may still have in force.

    ``looked_at``: when that was looked up, None while batches of them are undecided. ``older``: by
    country the rows of revisions before the last landed one, once ``vanished`` has come to its end.
    """

    resources: Resources
    database: Connection
    source: FileSource
    name: str
    looked_at: datetime | None = None
    older: dict[str, pa.Table] = field(default_factory=dict)

    def vanished(self, rows: Path) -> Iterator[tuple[str, pa.Table]]:
        """By country, the latest landed rows that ``rows``, the file's new revision, lacks.

        Memory holds the keys of the new revision, of one country those of the last two and the rows
        that vanish there, and the older rows.
        """
        clock = fetch_one(self.database, "database_clock").clock
        revision, older = self._start()
        intervals = fetch(
            self.database,
            "intervals_from",
            source=self.source.name,
            name=self.name,
            revision=revision,
        )
        batches = self._batches(intervals)
        if all(batch.state != "landed" for batch in batches):
            self.looked_at = clock
        keys, by_batch_country = _keys_by_country(self.source, rows), _grouped(batches)
        for country in sorted({*by_batch_country, *older}):
            own = self._own(by_batch_country.get(country, []), intervals, older.get(country), keys.get(country))
            vanished = self._vanished(country, own, intervals[-1].lower, keys.get(country))
            if vanished.num_rows:
                yield country, vanished.select(schema_of(self.source).names)

    def write_older(self, path: Path) -> dict[str, Any]:
        """Store the older rows, if there are any; returns what the ledger says of them."""
        facts = {"older_at": self.looked_at, "older_key": None, "older_sha256": None}
        tables = [table.append_column(LANDED_IN, _repeated(country, table)) for country, table in self.older.items()]
        if self.looked_at is None or not any(table.num_rows for table in tables):
            return facts
        pq.write_table(pa.concat_tables(tables), path, compression="zstd")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        key = f"older/{self.source.name}/{sha256}.parquet"
        self.resources.store.put_file(key, path)
        return {**facts, "older_key": key, "older_sha256": sha256}

    def _start(self) -> tuple[int, dict[str, pa.Table]]:
        """The first revision to read, and by country the rows of those before it; 0 and none, where
        nothing is known."""
        last = fetch_one(self.database, "standing_revision", source=self.source.name, name=self.name)
        if last is None:
            return 0, {}
        if last.older_key is None:
            return last.previous_revision, {}
        try:
            file = open_batch(self.resources.store, last.older_key, last.older_sha256)
        except StoreError as error:
            logger.warning("%s: all revisions of %s are read: %s", self.source.name, self.name, error)
            return 0, {}
        table = file.read(use_threads=False)
        rows = _conformed(table, self.source).append_column(HOLDER, table[HOLDER])
        countries = table[LANDED_IN]
        return last.previous_revision, {
            country: rows.filter(pc.equal(countries, country)) for country in countries.unique().to_pylist()
        }

    def _batches(self, intervals: Sequence[Any]) -> list[Any]:
        """The batches that hold rows of some intervals."""
        uppers = [interval.upper for interval in intervals if interval.upper > interval.lower]
        return fetch(self.database, "batches_of_intervals", source=self.source.name, uppers=uppers)

    def _own(
        self,
        batches: Sequence[Any],
        intervals: Sequence[Any],
        older: pa.Table | None,
        kept: pd.DataFrame | None,
    ) -> pa.Table:
        """Of one country the file's latest rows in force, less those of its last revision whose key is kept."""
        newest, seen = intervals[-1].lower, _no_keys(self.source)
        parts = [_with_holder(schema_of(self.source).empty_table())]
        newest_first = sorted(batches, key=lambda batch: batch.upper, reverse=True)
        for _, group in groupby(newest_first, key=lambda batch: batch.upper):
            keys = [seen]
            for batch, table in _tables(self.resources, self.source, group):
                told = ~table[REMOVED].to_numpy() | (batch.state == "accepted")
                mine = table.filter(pa.array(_within(table[self.source.changed_at], intervals) & told))
                is_newest = _is_since(mine[self.source.changed_at], newest)
                is_kept = is_newest & _is_among(mine, kept, self.source)
                is_overtaken = _is_among(mine, seen, self.source)
                parts.append(_with_holder(mine.filter(pa.array(~is_kept & ~is_overtaken))))
                keys.append(_keys(mine, self.source))
            seen = pd.concat(keys).drop_duplicates()
        if older is not None:
            parts.append(older.filter(pa.array(~_is_among(older, seen, self.source))))
        latest = _latest(pa.concat_tables(parts), self.source)
        return latest.filter(pa.array(~latest[REMOVED].to_numpy()))

    def _vanished(self, country: str, own: pa.Table, newest: datetime, kept: pd.DataFrame | None) -> pa.Table:
        """Of one country's rows those that vanish; remembers which are older than the last revision,
        and who holds them."""
        is_gone = ~_is_among(own, kept, self.source)
        gone = own.filter(pa.array(is_gone))
        is_held, holders = self._held_by_others(country, gone)
        known = own[HOLDER].to_pylist()
        for position, holder in zip(np.flatnonzero(is_gone), holders, strict=True):
            known[position] = holder
        own = own.set_column(own.schema.get_field_index(HOLDER), HOLDER, pa.array(known, pa.int64()))
        self.older[country] = own.filter(pa.array(~_is_since(own[self.source.changed_at], newest)))
        return gone.filter(pa.array(~is_held))

    def _held_by_others(self, country: str, gone: pa.Table) -> tuple[Mask, list[int | None]]:
        """Which rows have a later revision from another file, in a batch that is read; of accepted
        batches their numbers."""
        holders = self._still_accepted(country, gone[HOLDER].to_pylist())
        is_held = np.array([seq is not None for seq in holders], dtype=bool)
        if is_held.all():
            return is_held, holders
        frame = gone.select([*self.source.key, self.source.changed_at]).to_pandas()
        hashes, since = key_hashes(gone, self.source), frame[self.source.changed_at][~is_held].min()
        for batch in self._beside(country, since):
            if is_held.all():
                break
            if self._may_hold(batch, hashes[~is_held]):
                found = self._holds_later(batch, frame, since) & ~is_held
                is_held |= found
                for position in np.flatnonzero(found) if batch.state == "accepted" else ():
                    holders[position] = batch.seq
        return is_held, holders

    def _still_accepted(self, country: str, holders: list[int | None]) -> list[int | None]:
        seqs = sorted({seq for seq in holders if seq is not None})
        if not seqs:
            return holders
        rows = fetch(self.database, "accepted_among", source=self.source.name, country=country, seqs=seqs)
        accepted = {row.seq for row in rows}
        return [seq if seq in accepted else None for seq in holders]

    def _beside(self, country: str, since: datetime) -> list[Any]:
        return fetch(
            self.database,
            "batches_beside",
            source=self.source.name,
            country=country,
            since=since,
            name=self.name,
        )

    def _may_hold(self, batch: Any, hashes: npt.NDArray[np.uint64]) -> bool:
        if batch.filter is None or batch.key_types != key_types(self.source):
            return True
        return bool(may_hold(bytes(batch.filter), hashes).any())

    def _holds_later(self, batch: Any, frame: pd.DataFrame, since: datetime) -> Mask:
        """Of some keys with their ``changed_at`` those that a batch has from another file, later."""
        key, changed_at = list(self.source.key), self.source.changed_at
        own = fetch(self.database, "intervals_since", source=self.source.name, name=self.name, since=since)
        is_held = np.zeros(len(frame), dtype=bool)
        for _, table in _tables(self.resources, self.source, [batch], [*key, changed_at, REMOVED]):
            others = ~_within(table[changed_at], own) & ~table[REMOVED].to_numpy()
            later = table.filter(pa.array(others)).select([*key, changed_at]).to_pandas()
            newest = later.groupby(key, as_index=False)[changed_at].max()
            both = frame.merge(newest, on=key, how="left", suffixes=("", "_later"))
            is_held |= (both[f"{changed_at}_later"] > both[changed_at]).to_numpy()
        return is_held


def _grouped(batches: Iterable[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for batch in batches:
        found.setdefault(batch.country, []).append(batch)
    return found


def _keys_by_country(source: FileSource, rows: Path) -> dict[str, pd.DataFrame]:
    parts: dict[str, list[pd.DataFrame]] = {}
    with pq.ParquetFile(rows, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=[*source.key, source.country], use_threads=False)
            for country, part in by_country(table, source):
                parts.setdefault(country, []).append(_keys(part, source))
    return {country: pd.concat(part).drop_duplicates() for country, part in parts.items()}


def _tables(
    resources: Resources,
    source: FileSource,
    batches: Iterable[Any],
    columns: Sequence[str] | None = None,
) -> Iterator[tuple[Any, pa.Table]]:
    """Rows of batches as readers get them, row group by row group, in today's columns or some."""
    for batch in batches:
        if batch.object_key is None:  # every row of it was rejected
            continue
        file = open_rows(resources.store, source, batch)
        there = [name for name in columns or file.schema_arrow.names if name in file.schema_arrow.names]
        for group in range(file.num_row_groups):
            yield (
                batch,
                _conformed(file.read_row_group(group, columns=there, use_threads=False), source, columns),
            )


def _conformed(table: pa.Table, source: FileSource, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows in the spec's columns and types of today; what they lack is missing."""
    schema = schema_of(source)
    if columns:
        schema = pa.schema([schema.field(name) for name in columns])
    made = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(made, schema=schema)


def _with_holder(table: pa.Table) -> pa.Table:
    return table.append_column(HOLDER, pa.nulls(table.num_rows, pa.int64()))


def _repeated(text: str, table: pa.Table) -> pa.Array:
    return pa.array([text] * table.num_rows, pa.string())


def _keys(table: pa.Table, source: FileSource) -> pd.DataFrame:
    return plain_frame(table.select(list(source.key)))


def _no_keys(source: FileSource) -> pd.DataFrame:
    return _keys(schema_of(source).empty_table(), source)


def _within(times: pa.ChunkedArray, intervals: Sequence[Any]) -> Mask:
    values = times.to_pandas()
    inside = np.zeros(len(values), dtype=bool)
    for interval in intervals:
        inside |= ((values >= interval.lower) & (values < interval.upper)).to_numpy()
    return inside


def _is_since(times: pa.ChunkedArray, first: datetime) -> Mask:
    found: Mask = (times.to_pandas() >= first).to_numpy()
    return found


def _is_among(table: pa.Table, keys: pd.DataFrame | None, source: FileSource) -> Mask:
    if keys is None:
        return np.zeros(table.num_rows, dtype=bool)
    sides = _keys(table, source).merge(keys, how="left", on=list(source.key), indicator="side")
    among: Mask = (sides["side"] == "both").to_numpy()
    return among


def _latest(table: pa.Table, source: FileSource) -> pa.Table:
    frame = table.select([*source.key, source.changed_at]).to_pandas()
    newest = frame.sort_values(source.changed_at, kind="stable").drop_duplicates(list(source.key), keep="last")
    return table.take(pa.array(newest.index.to_numpy()))
