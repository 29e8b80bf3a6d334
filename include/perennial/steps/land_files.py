"""Landing of a source of files: each file once by its name and hash, whole or not at all.

A file's rows get the moment of its pick-up, a microsecond apart, as ``changed_at``: so every row is a change of its own, a
later line is a later revision, and the rows of a file are those of its interval. Files are taken in portions, each recorded in
one transaction. What cannot be read is refused with its reason, and looked at again once its store says that it was written
anew.
"""

import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perennial.errors import FileRefused, NothingToDo, ObjectMissing, StoreError
from perennial.resources import Resources
from perennial.shell import file_source
from perennial.shell.database import Connection, connect, fetch, fetch_one
from perennial.shell.frames import plain_frame
from perennial.shell.lake import TYPES, schema_of
from perennial.shell.store import Entry, Store
from perennial.spec import REMOVED, FileSource
from perennial.steps.landing import Batches, Landing, cursor_of, record
from perennial.steps.vanished import vanished_rows

logger = logging.getLogger(__name__)

PORTION_FILES, PORTION_BYTES = 100, 256 << 20
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
    known = {row.name: row for row in fetch(database, "known_files", source=source.name)}
    entries, clock = file_source.look(store, source)
    found = []
    for entry in entries:
        name = entry.key.removeprefix(source.prefix)
        former = known.get(name)
        if former and former.stamp == entry.stamp:
            continue
        if abs(clock - entry.modified) < source.quiet:  # a time to come is a preset one, not that of a writer at work
            logger.info("%s: %s was written at %s and is left for later", source.name, name, entry.modified)
            continue
        revision, sha256 = (former.revision + 1, former.landed_sha256) if former else (1, None)
        found.append(Candidate(entry=entry, name=name, revision=revision, landed_sha256=sha256))
    return found


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
            counts = _write(resources, database, source, file, batches, at)
            facts.append(_facts(file, *counts, at))
            at += sum(counts) * MICROSECOND
        landing = Landing(
            lower=lower, upper=max(at, lower + MICROSECOND), clock=clock, batches=batches.close(), files=tuple(facts)
        )
        return record(resources, database, source, landing)


def _facts(file: Picked, rows: int, removed: int, at: datetime) -> dict[str, Any]:
    """A file as the ledger has it."""
    entry, is_landed = file.candidate.entry, file.state == "landed"
    return {
        "name": file.candidate.name, "revision": file.candidate.revision, "state": file.state, "reason": file.reason,
        "stamp": entry.stamp, "modified": entry.modified, "size": entry.size, "sha256": file.sha256,
        "rows": rows, "removed": removed, "lower": at if is_landed else None,
        "upper": at + (rows + removed) * MICROSECOND if is_landed else None,
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
    after = {other.key: other for other in store.look(entry.key)[0]}
    if entry.key not in after:
        raise ObjectMissing(f"{store.url}/{entry.key} is not in the store.")
    if after[entry.key].stamp != entry.stamp:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parsed(path: Path, source: FileSource, name: str) -> Path:
    """All rows of a file in the spec's types, as a local Parquet file. Raises FileRefused."""
    made = path.with_suffix(".rows")
    schema = pa.schema([(column.name, TYPES[column.type]) for column in source.file_columns])
    try:
        with pq.ParquetWriter(made, schema) as writer:
            for table in file_source.tables(path, name, source):
                writer.write_table(table)
    except (FileRefused, OSError):
        raise
    except Exception as error:
        logger.exception("%s: the file %s cannot be read", source.name, name)
        raise FileRefused(f"Reading it failed: {type(error).__name__}: {ascii(error)[:300]}") from error
    return made


def _write(
    resources: Resources, database: Connection, source: FileSource, file: Picked, batches: Batches, at: datetime
) -> tuple[int, int]:
    """Add a file's rows to the batches, and as removed those that only its former revisions hold; how many of each."""
    if file.rows is None:
        return 0, 0
    rows = 0
    with pq.ParquetFile(file.rows, pre_buffer=False) as parsed:
        for table in _chunks(parsed):
            batches.write(_stamped(table, source, at + rows * MICROSECOND, removed=False))
            rows += table.num_rows
    removed = 0
    if file.candidate.landed_sha256:
        for country, table in vanished_rows(resources, database, source, file.candidate.name, file.rows):
            batches.write_country(country, _stamped(table, source, at + (rows + removed) * MICROSECOND, removed=True))
            removed += table.num_rows
    file.rows.unlink()
    return rows, removed


def _chunks(file: pq.ParquetFile) -> Iterator[pa.Table]:
    return (file.read_row_group(group, use_threads=False) for group in range(file.num_row_groups))


def _stamped(table: pa.Table, source: FileSource, at: datetime, *, removed: bool) -> pa.Table:
    """Rows with a moment each, from ``at`` on, and whether they are gone."""
    moments = np.datetime64(at.replace(tzinfo=None), "us") + np.arange(table.num_rows)
    made = {name: table[name] for name in table.column_names if name not in (source.changed_at, REMOVED)}
    made[source.changed_at] = pa.array(moments, pa.timestamp("us")).cast(TYPES["timestamp"])
    made[REMOVED] = pa.array(np.full(table.num_rows, removed))
    schema = schema_of(source)
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
            at = file.lower
            for table in file_source.tables(path, file.name, source):
                stamped = _stamped(table, source, at, removed=False)
                yield plain_frame(stamped.select([*source.key, source.changed_at]))
                at += table.num_rows * MICROSECOND


def _is_there(store: Store, key: str, sha256: str, path: Path) -> bool:
    try:
        store.get_file(key, path)
    except ObjectMissing:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
