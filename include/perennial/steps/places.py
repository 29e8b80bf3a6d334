"""Where a table's keys have been landed: a key that is landed in another country is removed from where it was.

A batch is of one country, and a reading too: a country that a row has left would read its former revision for good. So the
landing that brings the row to another country adds it, as removed, to the batch of every country that has had its key, with
the time of its change, and none of them reads it any more.

The registry keeps a hash of each key and its countries, not the latest one but all: so it is never wrong that a key may be
there, and two keys that share a hash only make a country lose a key that it never had. No row is removed from UNKNOWN_COUNTRY,
which nobody reads. Files remove their rows by themselves.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perennial.errors import RegistryError, StoreError
from perennial.resources import Resources
from perennial.shell import key_hashes
from perennial.shell.database import Connection, copy_into, fetch, fetch_one, run, transaction
from perennial.shell.frames import cast_column, plain_frame
from perennial.shell.key_hashes import Hashes
from perennial.shell.lake import BatchWriter, LandedFile, marked, open_rows, schema_of
from perennial.spec import REMOVED, UNKNOWN_COUNTRY, FileSource, Source
from perennial.steps.batches import Batches, Landed

logger = logging.getLogger(__name__)

AT_ONCE = 20_000  # keys of a query
COPY_HEADER, COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"  # of PostgreSQL's binary format
ALWAYS = "-infinity"
ELSEWHERE = ""  # where a landing's rows are that the spec leaves out
NOWHERE = (UNKNOWN_COUNTRY, ELSEWHERE)  # what no row has to be removed from
Rows = tuple[Hashes, "np.ndarray[Any, Any]"]


@dataclass(frozen=True, kw_only=True)
class Places:
    """The keys of a landing by country, each hash once; the index as it was when they were looked up, and by country what it
    had of them elsewhere."""

    index: Any
    hashes: dict[str, Hashes]
    elsewhere: dict[str, Hashes]


def with_moves(
    resources: Resources, database: Connection, source: Source, batches: Batches
) -> tuple[dict[str, Landed], Places | None]:
    """A landing's batches, together with the rows that are removed from the countries that they have left; and its keys."""
    landed = batches.close()
    if isinstance(source, FileSource):
        return landed, None
    index = key_index(resources, database, source)
    files = {country: each.file for country, each in landed.items()}
    if batches.elsewhere is not None:
        files[ELSEWHERE] = batches.elsewhere.close()
    seen = {country: _hashes(file, source) for country, file in files.items() if file.rows}
    own = {country: np.unique(hashes[told]) for country, (hashes, told) in seen.items()}
    elsewhere = _elsewhere(database, index, own)
    moved = _add_moves_within(own, elsewhere)
    rows = _rows_of(files, source, seen, moved)

    made = dict(landed)
    for country, hashes in sorted(moved.items()):
        removed = _removed_from(country, hashes, rows, source)
        if removed.num_rows:
            logger.info("%s/%s: %s rows have left for other countries", source.name, country, removed.num_rows)
            made[country] = with_rows(landed.get(country), _folder(files) / f"{country}.moved", source, removed)
    return made, Places(index=index, hashes=own, elsewhere=elsewhere)


def note_places(database: Connection, source: Source, places: Places | None) -> None:
    """Record a landing's keys, in the transaction that records its batches and keeps others from landing.

    Raises RegistryError when what was recorded since its keys were looked up has brought some of them to other countries.
    """
    if places is None:
        return
    index = fetch_one(database, "key_index", source=source.name)
    if index.changes != places.index.changes and not _are_same(places.elsewhere, _elsewhere(database, index, places.hashes)):
        raise RegistryError(f"Keys of {source.name} were landed elsewhere meanwhile. Nothing of this landing was recorded.")
    run(database, "change_key_index", source=source.name)
    _fill(database, index, {country: keys for country, keys in places.hashes.items() if country not in NOWHERE})


def _are_same(one: dict[str, Hashes], other: dict[str, Hashes]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[country], other[country]) for country in one)


def key_index(resources: Resources, database: Connection, source: Source) -> Any:
    """The index of a source's keys; made from the lake where there is none, or one of other columns."""
    made_of = _made_of(source)
    index = fetch_one(database, "key_index", source=source.name)
    if index is None or index.made_of != made_of:
        with transaction(database):
            fetch_one(database, "lock_landing", source=source.name)
            _build(resources, database, source, made_of)
        index = fetch_one(database, "key_index", source=source.name)
    return index


def moved_here(database: Connection, source: Source, country: str, rows: pa.Table, others: Sequence[str]) -> pa.Table:
    """Of rows of other countries (``others``: row by row) those whose key has been in a country, as removed from it."""
    hashes = key_hashes.key_hashes(rows, source.key)
    own = {other: np.unique(hashes[np.array(others) == other]) for other in {*others} - {country}}
    index = fetch_one(database, "key_index", source=source.name)
    here = _elsewhere(database, index, own).get(country, np.empty(0, dtype=np.int64))
    chosen = np.isin(hashes, here) & (np.array(others, dtype=object) != country)
    return _as_removed(rows.filter(pa.array(chosen)), source)


def with_overtaken(
    resources: Resources,
    database: Connection,
    source: Source,
    since: datetime,
    country: str,
    rows: pa.Table,
) -> pa.Table:
    """Rows that land late in a country, as removed where their key was changed later elsewhere.

    ``since``: the lower end of the interval that they are of.
    """
    rows = marked(rows, source)
    late = overtaken(resources, database, source, since, country, rows)
    removed = pa.array(late | rows[REMOVED].to_numpy().astype(bool))
    return rows.set_column(rows.column_names.index(REMOVED), REMOVED, removed)


def overtaken(
    resources: Resources, database: Connection, source: Source, since: datetime, country: str, rows: pa.Table
) -> np.ndarray[Any, Any]:
    """Which rows of an old batch, about to be given to a country, have a key that was changed later in another country."""
    index, hashes = key_index(resources, database, source), key_hashes.key_hashes(rows, source.key)
    elsewhere = _elsewhere(database, index, {country: np.unique(hashes)})
    later = [_none(source)]
    for other in fetch(database, "batches_since", source=source.name, since=since) if elsewhere else []:
        if other.country in elsewhere:
            for table, found in _keys_of(resources, source, other):
                later.append(table.filter(pa.array(np.isin(found, elsewhere[other.country]))))
    key, changed_at = list(source.key), source.changed_at
    newest = plain_frame(pa.concat_tables(later)).groupby(key, as_index=False)[changed_at].max()
    frame = plain_frame(rows.select([*key, changed_at]))
    both = frame.merge(newest, on=key, how="left", suffixes=("", "_later"))
    later_there: np.ndarray[Any, Any] = (both[f"{changed_at}_later"] > both[changed_at]).to_numpy(dtype=bool)
    return later_there


def _made_of(source: Source) -> str:
    types = {column.name: column.type for column in source.columns}
    return f"{key_hashes.VERSION}: " + ", ".join(f"{name} {types[name]}" for name in source.key)


def _build(resources: Resources, database: Connection, source: Source, made_of: str) -> None:
    former = fetch_one(database, "key_index", source=source.name)
    if former is not None and former.made_of == made_of:
        return  # somebody else has just made it
    if former is not None:
        run(database, "forget_key_places", number=former.number)
    run(database, "start_key_index", source=source.name, made_of=made_of)
    batches = fetch(database, "batches_since", source=source.name, since=ALWAYS)
    parts: dict[str, list[Hashes]] = {}
    for batch in (batch for batch in batches if batch.country != UNKNOWN_COUNTRY):
        try:
            parts.setdefault(batch.country, []).extend(found for _, found in _keys_of(resources, source, batch))
        except (StoreError, pa.ArrowInvalid) as error:
            logger.warning("%s/%s batch %s: its keys are not known: %s", source.name, batch.country, batch.seq, error)
    hashes = {country: np.unique(np.concatenate(found)) for country, found in parts.items() if found}
    _fill(database, fetch_one(database, "key_index", source=source.name), hashes)
    if batches:
        number = sum(len(found) for found in hashes.values())
        logger.warning("%s: %s keys of %s batches were looked up in the lake, once", source.name, f"{number:,}", len(batches))


def _keys_of(resources: Resources, source: Source, batch: Any) -> Iterator[tuple[pa.Table, Hashes]]:
    """Keys and times of change of a stored batch that has objects, and the keys' hashes, row group by row group."""
    wanted = _none(source).schema
    if batch.object_key is None:
        return
    file = open_rows(resources.store, source, batch)
    for number in range(file.num_row_groups):
        table = file.read_row_group(number, columns=wanted.names, use_threads=False)
        if set(wanted.names) - set(table.column_names):
            raise StoreError(f"{batch.object_key} has no column {', '.join(set(wanted.names) - set(table.column_names))}")
        what = f"{source.name}/{batch.country} batch {batch.seq}"
        table = pa.table([cast_column(table[field.name], field.type, what) for field in wanted], schema=wanted)
        table = table.drop_null()
        yield table, key_hashes.key_hashes(table, source.key)


def _none(source: Source) -> pa.Table:
    return schema_of(source).empty_table().select([*source.key, source.changed_at])


def _hashes(file: LandedFile, source: Source) -> Rows:
    """The hash of each row's key, and whether it has one: a row without a key cannot move."""
    parts, told = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=bool)]
    with pq.ParquetFile(file.path, pre_buffer=False) as written:
        for number in range(written.num_row_groups):
            table = written.read_row_group(number, columns=list(source.key), use_threads=False)
            parts.append(key_hashes.key_hashes(table, source.key))
            told.append(np.logical_and.reduce([column.is_valid().to_numpy() for column in table.columns]))
    return np.concatenate(parts), np.concatenate(told)


def _elsewhere(database: Connection, index: Any, own: dict[str, Hashes]) -> dict[str, Hashes]:
    """By country, the keys that have been there and are in another one now."""
    if index.is_empty or not own:
        return {}
    countries = sorted(own)
    hashes = np.concatenate([own[country] for country in countries])
    places = np.repeat(np.arange(len(countries)) + 1, [len(own[country]) for country in countries])
    found: dict[str, list[int]] = {}
    for first in range(0, len(hashes), AT_ONCE):
        part = slice(first, first + AT_ONCE)
        rows = fetch(
            database, "places_elsewhere", number=index.number, hashes=_array(hashes[part]), places=_array(places[part]),
            countries=countries,
        )  # fmt: skip
        for row in rows:
            found.setdefault(row.country, []).append(row.key_hash)
    return {country: np.unique(np.array(keys, dtype=np.int64)) for country, keys in found.items()}


def _add_moves_within(own: dict[str, Hashes], moved: dict[str, Hashes]) -> dict[str, Hashes]:
    """The keys that have been elsewhere, and those that are in several countries of the landing itself."""
    if len(own) > 1:
        keys, numbers = np.unique(np.concatenate([*own.values()]), return_counts=True)
        several = keys[numbers > 1]
        for country, hashes in own.items() if len(several) else []:
            both = np.intersect1d(hashes, several, assume_unique=True)
            if len(both) and country not in NOWHERE:
                moved = {**moved, country: np.union1d(moved.get(country, both), both)}
    return moved


def _rows_of(
    files: dict[str, LandedFile], source: Source, seen: dict[str, Rows], moved: dict[str, Hashes]
) -> dict[str, pa.Table]:  # fmt: skip
    """The landing's rows by country whose keys have moved, or may have."""
    if not moved:
        return {}
    wanted, found = np.unique(np.concatenate([*moved.values()])), {}
    for country, (hashes, told) in seen.items():
        chosen, first, parts = np.isin(hashes, wanted) & told, 0, [schema_of(source).empty_table()]
        with pq.ParquetFile(files[country].path, pre_buffer=False) as written:
            for number in range(written.num_row_groups if chosen.any() else 0):
                rows = written.metadata.row_group(number).num_rows
                mask = chosen[first : first + rows]
                if mask.any():
                    parts.append(written.read_row_group(number, use_threads=False).filter(pa.array(mask)))
                first += rows
        found[country] = pa.concat_tables(parts)
    return found


def _removed_from(country: str, hashes: Hashes, rows: dict[str, pa.Table], source: Source) -> pa.Table:
    """The latest rows of some keys in other countries, as removed from this one, unless it has a row as late."""
    parts = [schema_of(source).empty_table()]
    parts += [_of_keys(table, hashes, source) for other, table in rows.items() if other != country]
    elsewhere = pa.concat_tables(parts)
    identity = [*source.key, source.changed_at]
    here = _of_keys(rows[country], hashes, source).select(identity) if country in rows else _none(source)
    both = pd.concat([plain_frame(elsewhere.select(identity)), plain_frame(here)], ignore_index=True)
    latest = both.sort_values(source.changed_at, kind="stable").drop_duplicates(list(source.key), keep="last").index
    return _as_removed(elsewhere.take(pa.array(latest[latest < elsewhere.num_rows].to_numpy())), source)


def _of_keys(table: pa.Table, hashes: Hashes, source: Source) -> pa.Table:
    return table.filter(pa.array(np.isin(key_hashes.key_hashes(table, source.key), hashes)))


def _as_removed(table: pa.Table, source: Source) -> pa.Table:
    names = schema_of(source).names
    others = table.select([name for name in table.column_names if name != REMOVED])
    return others.append_column(REMOVED, pa.array(np.ones(table.num_rows, dtype=bool))).select(names)


def _folder(files: dict[str, LandedFile]) -> Path:
    return next(iter(files.values())).path.parent


def with_rows(landed: Landed | None, path: Path, source: Source, rows: pa.Table) -> Landed:
    """A batch that is written locally, with further rows at its end."""
    writer = BatchWriter(path, source)
    if landed is not None and landed.file.rows:
        with pq.ParquetFile(landed.file.path, pre_buffer=False) as written:
            for number in range(written.num_row_groups):
                writer.write(written.read_row_group(number, use_threads=False))
    writer.write(rows)

    file = writer.close()
    return Landed(file=file) if landed is None else replace(landed, file=file)


def _fill(database: Connection, index: Any, hashes: dict[str, Hashes]) -> None:
    """Add keys to an index."""
    if index.is_empty:
        for data in _binary(index.number, hashes):
            copy_into(database, "fill_key_places", data)
        return
    for country, keys in hashes.items():
        for first in range(0, len(keys), AT_ONCE):
            part = _array(keys[first : first + AT_ONCE])
            run(database, "add_key_places", number=index.number, hashes=part, country=country)


def _array(numbers: np.ndarray[Any, Any]) -> str:
    """Numbers as PostgreSQL reads an array: many times faster than one by one."""
    return "{" + ",".join(map(str, numbers.tolist())) + "}"


def _binary(number: int, hashes: dict[str, Hashes]) -> Iterator[bytes]:
    """Places in the order of their hashes as COPY's binary format has them; country codes of each length by themselves."""
    codes = {country: country.encode() for country in hashes}
    for length in sorted({len(code) for code in codes.values()}):
        named = [country for country in sorted(hashes) if len(codes[country]) == length]
        keys = np.concatenate([hashes[country] for country in named])
        texts = np.repeat(np.array([codes[country] for country in named]), [len(hashes[country]) for country in named])
        order = np.argsort(keys, kind="stable")
        kind = [("fields", ">i2"), ("size1", ">i4"), ("number", ">i2"), ("size2", ">i4"), ("hash", ">i8"), ("size3", ">i4"),
                ("country", f"S{length}")]  # fmt: skip
        rows = np.empty(len(keys), dtype=kind)
        for name, value in {"fields": 3, "size1": 2, "number": number, "size2": 8, "size3": length}.items():
            rows[name] = value
        rows["hash"], rows["country"] = keys[order], texts[order]
        yield COPY_HEADER + rows.tobytes() + COPY_END
