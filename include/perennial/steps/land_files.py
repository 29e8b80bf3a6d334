"""Landing of a source of files: each file once by its name and hash.

A file's rows, also those that cannot be read, get the moment of its pick-up as ``changed_at``,
a microsecond apart: so every row is a change of its own, a later line is a later revision, and
the rows of a file are those of its interval. Files are taken in portions, each recorded in one
transaction. A file that cannot be read as a whole is refused with its reason, and looked at again
once its store says that it was written again; a row that cannot be read is kept aside by itself.
"""

import hashlib
import itertools
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perennial.core.key_filters import key_filter, key_hashes
from perennial.core.trials import rejected_schema, with_reasons
from perennial.errors import FileRefused, NothingToDo, ObjectMissing, StoreError
from perennial.resources import Resources
from perennial.shell import file_source
from perennial.shell.database import Connection, connect, fetch, fetch_one
from perennial.shell.lake import TYPES, schema_of
from perennial.shell.store import Entry, Store
from perennial.shell.values import Reading, typed_texts
from perennial.spec import REMOVED, FileSource
from perennial.steps.batches import Batches, unreadable_schema, wanted
from perennial.steps.landing import Landing, cursor_of, record
from perennial.steps.vanished import FormerRevisions

logger = logging.getLogger(__name__)

Offsets = npt.NDArray[np.int64]
PORTION_FILES, PORTION_BYTES = 100, 256 << 20
ASKED_FILES = 10_000  # that the registry is asked about at once
ROWS, UNREADABLE, KEYS = ".rows", ".unreadable", ".keys"  # of local files
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that was written since it was last seen; ``landed_sha256``: of what is landed of it, if anything."""

    entry: Entry
    name: str
    revision: int
    landed_sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Picked:
    """A file that was looked into; ``rows`` is a local Parquet file where it may be landed."""

    candidate: Candidate
    state: str
    reason: str = ""
    sha256: str | None = None
    rows: Path | None = None


def land_files(resources: Resources, source: FileSource) -> dict[str, int]:
    """Land every file that is new or written anew and has lain still for ``quiet``; returns rows by country.

    A file that cannot be read is refused and recorded, and the others land. Raises NothingToDo where no row came.
    """
    store = resources.source_store(source.connection)
    landed: Counter[str] = Counter()
    with closing(connect(resources.database)) as database:
        for portion in _portions(_candidates(store, database, source)):
            landed.update(_land(resources, store, database, source, portion))
    if not landed:
        raise NothingToDo(f"Source {source.name} has no new file with rows below {store.url}/{source.prefix}.")
    logger.info("%s: landed %s rows of %s countries", source.name, sum(landed.values()), len(landed))
    return dict(landed)


def _candidates(store: Store, database: Connection, source: FileSource) -> list[Candidate]:
    """What is listed and not known as it stands, oldest first. What was known and is listed no more is not asked for."""
    entries, clock = file_source.look(store, source)
    found = []
    for first in range(0, len(entries), ASKED_FILES):
        part = entries[first : first + ASKED_FILES]
        changed = _changed(database, source, part)
        for entry in part:
            former = changed.get(_name_of(entry, source))
            if former is None:
                continue
            if abs(clock - entry.modified) < source.quiet:  # a time to come is a preset one, not that of a writer at work
                logger.info("%s: %s was written at %s and is left for later", source.name, former.name, entry.modified)
                continue
            revision, sha256 = former.revision + 1, former.landed_sha256
            found.append(Candidate(entry=entry, name=former.name, revision=revision, landed_sha256=sha256))
    return found


def _changed(database: Connection, source: FileSource, entries: Sequence[Entry]) -> dict[str, Any]:
    """Which of some listed files were written since they were last seen, by name."""
    names, stamps = [_name_of(entry, source) for entry in entries], [entry.stamp for entry in entries]
    return {row.name: row for row in fetch(database, "changed_files", source=source.name, names=names, stamps=stamps)}


def _name_of(entry: Entry, source: FileSource) -> str:
    return entry.key.removeprefix(source.prefix)


def _portions(candidates: list[Candidate]) -> Iterator[list[Candidate]]:
    """What is recorded together: a file that was landed before by itself, so that all other rows are in the ledger."""
    portion: list[Candidate] = []
    for candidate in candidates:
        size = sum(other.entry.size for other in portion) + candidate.entry.size
        alone = candidate.landed_sha256 or (portion and portion[-1].landed_sha256)
        if portion and (alone or len(portion) == PORTION_FILES or size > PORTION_BYTES):
            yield portion
            portion = []
        portion.append(candidate)
    if portion:
        yield portion


def _land(
    resources: Resources, store: Store, database: Connection, source: FileSource, portion: list[Candidate]
) -> dict[str, int]:  # fmt: skip
    clock = fetch_one(database, "database_clock").clock
    lower = cursor_of(database, source, clock)
    with tempfile.TemporaryDirectory(prefix="perennial-") as name:
        folder = Path(name)
        seen = (_pick(store, source, candidate, folder / str(number)) for number, candidate in enumerate(portion))
        picked = [file for file in seen if file]
        if not picked:
            return {}
        at, batches, facts = max(lower, clock), Batches(source, folder), []
        for file in picked:
            before = batches.left_out.total()
            former = FormerRevisions(resources=resources, database=database, source=source, name=file.candidate.name)
            counts = _write(source, file, former, batches, at)

            left_out = batches.left_out.total() - before
            older = _older(file, former, clock, folder / "older")
            facts.append({**_facts(file, counts, at), **older, "left_out": left_out})
            at += counts.total() * MICROSECOND
        written = batches.close()
        landing = Landing(
            lower=lower,
            upper=max(at, lower + MICROSECOND),
            clock=clock,
            batches=written,
            files=tuple(facts),
            key_filters={country: _key_filter(source, landed.file.path) for country, landed in written.items()},
        )
        return record(resources, database, source, landing)


def _older(file: Picked, former: FormerRevisions, clock: datetime, path: Path) -> dict[str, Any]:
    """What the next revision of a file has to look at beside the last two; nothing, where this is the first."""
    if file.state == "landed" and file.candidate.landed_sha256:
        return former.write_older(path)
    return {"older_at": clock if file.state == "landed" else None, "older_key": None, "older_sha256": None}


def _key_filter(source: FileSource, path: Path) -> bytes:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        groups = (file.read_row_group(group, columns=[*source.key], use_threads=False) for group in range(file.num_row_groups))
        hashes = [np.empty(0, dtype=np.uint64), *(key_hashes(table, source) for table in groups)]
        return key_filter(np.concatenate(hashes))


def _facts(file: Picked, counts: Counter[str], at: datetime) -> dict[str, Any]:
    """A file as the ledger has it."""
    entry, is_landed = file.candidate.entry, file.state == "landed"
    return {
        "name": file.candidate.name, "revision": file.candidate.revision, "state": file.state, "reason": file.reason,
        "stamp": entry.stamp, "modified": entry.modified, "size": entry.size, "sha256": file.sha256,
        "rows": counts["rows"], "unreadable_rows": counts["unreadable"], "removed": counts["removed"],
        "lower": at if is_landed else None, "upper": at + counts.total() * MICROSECOND if is_landed else None,
    }  # fmt: skip


def _pick(store: Store, source: FileSource, candidate: Candidate, path: Path) -> Picked | None:
    """Fetch a file and look into it; None where it is left for later."""
    picked = Picked(candidate=candidate, state="landed")
    try:
        sha256 = _fetched(store, candidate.entry, path)
        if sha256 is None:
            logger.info("%s: %s is being written and is left for later", source.name, candidate.name)
            return None
        picked = replace(picked, sha256=sha256)
        if sha256 == candidate.landed_sha256:
            return replace(picked, state="unchanged")
        return replace(picked, rows=_parsed(path, source, candidate.name))
    except ObjectMissing:
        reason = "It vanished while it was read."
    except FileRefused as error:
        reason = str(error)
    except StoreError as error:
        logger.warning("%s: %s cannot be read now and is left for later: %s", source.name, candidate.name, error)
        return None
    finally:
        path.unlink(missing_ok=True)
    logger.error("%s: the file %s is refused. %s", source.name, candidate.name, reason)
    return replace(picked, state="refused", reason=reason)


def _fetched(store: Store, entry: Entry, path: Path) -> str | None:
    """The hash of an object that is fetched to ``path``; None when it was written meanwhile. Raises ObjectMissing."""
    store.get_file(entry.key, path)
    if store.entry(entry.key).stamp != entry.stamp:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parsed(path: Path, source: FileSource, name: str) -> Path:
    """All rows of a file in the spec's types, with their numbers, as a local Parquet file.

    Beside it lie the unreadable ones as texts, and the keys of all. Raises FileRefused.
    """
    made = path.with_suffix(ROWS)
    try:
        with closing(_FileWriter(source, made)) as writer:
            for reading in file_source.tables(path, name, source):
                writer.write(reading)
    except (FileRefused, OSError):
        raise
    except Exception as error:
        logger.exception("%s: the file %s cannot be read", source.name, name)
        raise FileRefused(f"Reading it failed: {type(error).__name__}: {ascii(error)[:300]}") from error
    return made


class _FileWriter:
    """Writes what is read of a file to local Parquet files, chunk by chunk.

    The rows have their numbers in the place of ``changed_at``.
    """

    def __init__(self, source: FileSource, path: Path) -> None:
        self.source = source
        types = {column.name: TYPES[column.type] for column in source.file_columns}
        self.keys_schema = pa.schema([(name, types[name]) for name in dict.fromkeys((*source.key, source.country))])
        self.rows = pq.ParquetWriter(path, pa.schema([*types.items(), (source.changed_at, pa.int64())]))
        self.unreadable = pq.ParquetWriter(path.with_suffix(UNREADABLE), _numbered_schema(source))
        self.keys = pq.ParquetWriter(path.with_suffix(KEYS), self.keys_schema)

    def write(self, reading: Reading) -> None:
        """Append a chunk."""
        self.rows.write_table(reading.rows.append_column(self.source.changed_at, pa.array(reading.numbers, pa.int64())))
        self.keys.write_table(reading.rows.select(self.keys_schema.names))
        if reading.unreadable.num_rows:
            numbers = pa.array(reading.unreadable_numbers, pa.int64())
            texts = with_reasons(reading.unreadable, reading.kinds, reading.reasons)
            texts = texts.append_column(self.source.changed_at, numbers)
            self.unreadable.write_table(texts.cast(_numbered_schema(self.source)))
            self.keys.write_table(self._keys_of(reading.unreadable))

    def close(self) -> None:
        """Finish the files."""
        for writer in (self.rows, self.unreadable, self.keys):
            writer.close()

    def _keys_of(self, texts: pa.Table) -> pa.Table:
        """The keys of unreadable rows, as far as they can be read. One of an unknown country may be of any."""
        name = self.source.country
        keys = typed_texts(texts, self.source, self.source.key)
        known = {str(value): value for value in self.source.countries}
        may_be = [[known[value]] if value in known else [*known.values()] for value in texts[name].to_pylist()]
        places = pa.array(np.repeat(np.arange(len(may_be)), [len(values) for values in may_be]))
        columns = {name: values.take(places) for name, values in keys.items()}
        countries = pa.array(list(itertools.chain(*may_be)), self.keys_schema.field(name).type)
        return pa.table({**columns, name: countries}).select(self.keys_schema.names).drop_null()


def _numbered_schema(source: FileSource) -> pa.Schema:
    texts = rejected_schema(pa.schema([(column.name, pa.string()) for column in source.file_columns]))
    return texts.append(pa.field(source.changed_at, pa.int64()))


def _write(source: FileSource, file: Picked, former: FormerRevisions, batches: Batches, at: datetime) -> Counter[str]:
    """Add a file's rows to the batches, unreadable ones among them, and as removed those that only its former revisions
    hold; how many of each."""
    counts: Counter[str] = Counter()
    if file.rows is None:
        return counts
    for table in _row_groups(file.rows):
        batches.write(_stamped(table, source, at, _offsets(table, source), removed=False))
        counts["rows"] += table.num_rows
    for table in _row_groups(file.rows.with_suffix(UNREADABLE)):
        batches.write_unreadable(_stamped_texts(table, source, at))
        counts["unreadable"] += table.num_rows
    if file.candidate.landed_sha256:
        keys = file.rows.with_suffix(KEYS)
        for country, table in former.vanished(keys):
            offsets = counts.total() + np.arange(table.num_rows)
            batches.write_country(country, _stamped(table, source, at, offsets, removed=True))
            counts["removed"] += table.num_rows
    for ending in (ROWS, UNREADABLE, KEYS):
        file.rows.with_suffix(ending).unlink()
    return counts


def _row_groups(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        yield from (file.read_row_group(group, use_threads=False) for group in range(file.num_row_groups))


def _offsets(table: pa.Table, source: FileSource) -> Offsets:
    """How many rows of their file come before rows that have their numbers in the place of ``changed_at``."""
    numbers: Offsets = table[source.changed_at].to_numpy()
    return numbers - 1


def _moments(at: datetime, offsets: Offsets) -> pa.Array:
    return pa.array(np.datetime64(at.replace(tzinfo=None), "us") + offsets, pa.timestamp("us")).cast(TYPES["timestamp"])


def _stamped(table: pa.Table, source: FileSource, at: datetime, offsets: Offsets, *, removed: bool) -> pa.Table:
    """Rows with a moment each, from ``at`` on, and whether they are gone."""
    made = {name: table[name] for name in table.column_names if name not in (source.changed_at, REMOVED)}
    made[source.changed_at] = _moments(at, offsets)
    made[REMOVED] = pa.array(np.full(table.num_rows, removed))
    schema = schema_of(source)
    return pa.table([made[field.name] for field in schema], schema=schema)


def _stamped_texts(table: pa.Table, source: FileSource, at: datetime) -> pa.Table:
    """Unreadable rows with a moment each, as they are kept aside."""
    made = {name: table[name] for name in table.column_names}
    made[source.changed_at] = _moments(at, _offsets(table, source)).cast(pa.string())
    made[REMOVED] = pa.array(["false"] * table.num_rows)
    schema = unreadable_schema(source)
    return pa.table([made[field.name] for field in schema], schema=schema)


def delivered(store: Store, source: FileSource, files: list[Any], lower: datetime, upper: datetime) -> Iterator[pd.DataFrame]:
    """Keys and ``changed_at`` of what landed files (``name``, ``sha256``, ``lower``) of an interval hold, as they lie there.

    Those that were removed or replaced since are left out. Raises StoreError and FileRefused.
    """
    for file in (file for file in files if lower <= file.lower < upper):
        with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
            path = Path(folder) / "file"
            if not _is_there(store, f"{source.prefix}{file.name}", file.sha256, path):
                continue
            for reading in file_source.tables(path, file.name, source):
                places = reading.numbers - 1
                stamped = _stamped(reading.rows, source, file.lower, places, removed=False)
                stamped = wanted(stamped, source)
                yield stamped.select([*source.key, source.changed_at]).to_pandas()


def _is_there(store: Store, key: str, sha256: str, path: Path) -> bool:
    try:
        store.get_file(key, path)
    except ObjectMissing:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
