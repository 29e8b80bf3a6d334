"""Compact: small batches are put together into derived objects, so that a reading touches few of them.

The batches are the truth and stay. A compaction is read only while it holds just what is read of its range; one that was
overtaken by a larger one or by a decision about a batch is removed when no reader can still be using it.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from perennial.catalog import Catalog
from perennial.core.compaction import Piece, due, excluded
from perennial.errors import NothingToDo, StoreError
from perennial.resources import Resources
from perennial.shell.database import Connection, connect, fetch, fetch_one, run
from perennial.shell.lake import LandedFile, put_together
from perennial.spec import Source

logger = logging.getLogger(__name__)

OBJECTS = 20_000  # that one run reads, about; the next one goes on
KEEP = timedelta(days=1)  # what is not read any more: a reader that has just been given it may still be reading
FOLDER = "compactions/"


@dataclass(frozen=True, kw_only=True)
class Country:
    """A source's batches of one country."""

    resources: Resources
    database: Connection
    source: Source
    name: str

    @property
    def named(self) -> dict[str, str]:
        """Which it is, as queries name it."""
        return {"source": self.source.name, "country": self.name}


def compact(resources: Resources, catalog: Catalog) -> dict[str, int]:
    """Put small batches of every country together and remove what is read no more; returns how many objects were made, read
    for it and removed. Raises NothingToDo while another process is at it, StoreError when countries had to be left out.
    """
    database = connect(resources.database)
    try:
        with _alone(database):
            removed = _remove_unread(resources, database)
            counts, left_out = _compact_all(resources, database, catalog)
    finally:
        database.close()
    if left_out:
        raise StoreError("; ".join(left_out))
    return {**counts, "removed": removed}


@contextmanager
def _alone(database: Connection) -> Iterator[None]:
    if not fetch_one(database, "lock_compacting").locked:
        raise NothingToDo("Another process is compacting.")
    try:
        yield
    finally:
        if not database.closed:
            run(database, "unlock_compacting")


def _compact_all(resources: Resources, database: Connection, catalog: Catalog) -> tuple[dict[str, int], list[str]]:
    made, read, left_out = 0, 0, []
    for source in catalog.sources.values():
        for row in fetch(database, "countries_of", source=source.name):
            country = Country(resources=resources, database=database, source=source, name=row.country)
            try:
                sizes = _compact_country(country, OBJECTS - read)
            except StoreError as error:
                logger.exception("%s/%s cannot be compacted", source.name, row.country)
                left_out.append(f"{source.name}/{row.country}: {error}")
            else:
                made, read = made + len(sizes), read + sum(sizes)
    return {"made": made, "read": read}, left_out


def _compact_country(country: Country, objects: int) -> list[int]:
    """Put pieces together while some are due and there are objects left to read; of how many each object was made."""
    breaks: set[int] = set()
    sizes: list[int] = []
    while sum(sizes) < objects and (pieces := due(_pieces(country), breaks)):
        with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
            file, held = put_together(country.resources.store, pieces, country.source, Path(folder) / "compaction")
            if held > 1 and not _record(country, pieces[:held], file):
                return sizes
        breaks |= {piece.first_seq for piece in pieces[held : held + 1]}
        sizes += [held] if held > 1 else []
    return sizes


def _pieces(country: Country) -> list[Piece]:
    rows = fetch(country.database, "pieces_of", **country.named)
    return [Piece(**{**row._asdict(), "excluded": tuple(row.excluded)}) for row in rows]


def _record(country: Country, pieces: Sequence[Piece], file: LandedFile) -> bool:
    """Store the object, then record it. False where a batch of its range was decided anew meanwhile: the next run goes on."""
    range_ = {"first_seq": pieces[0].first_seq, "last_seq": pieces[-1].last_seq, "excluded": excluded(pieces)}
    # A name that nothing ever had: whoever removes what nobody has recorded does not remove this.
    key = f"{FOLDER}{country.source.name}/{country.name}/{uuid4().hex}.parquet"
    country.resources.store.put_file(key, file.path)
    recorded = run(
        country.database, "add_compaction", **country.named, **range_, batches=sum(piece.batches for piece in pieces),
        rows=file.rows, event_min=file.event_min, event_max=file.event_max, object_key=key, sha256=file.sha256, size=file.size,
    )  # fmt: skip
    logger.info(
        "%s/%s batches %s to %s, %s rows: %s objects became one", country.source.name, country.name, range_["first_seq"],
        range_["last_seq"], file.rows, len(pieces),
    )  # fmt: skip
    return recorded == 1


def _remove_unread(resources: Resources, database: Connection) -> int:
    """Remove compactions that nobody reads any more, the row before the object, and objects that nobody has recorded."""
    for row in fetch(database, "idle_compactions", keep=KEEP):
        run(database, "drop_compaction", object_key=row.object_key)
    recorded = {row.object_key: row.size for row in fetch(database, "recorded_compactions")}
    there, clock = resources.store.look(FOLDER)
    sizes = {entry.key: entry.size for entry in there}
    for key in sorted(key for key, size in recorded.items() if sizes.get(key) != size):
        logger.warning("%s/%s is missing or cut: what it held is read from the batches.", resources.store.url, key)
        run(database, "drop_compaction", object_key=key)
    unread = [entry.key for entry in there if entry.key not in recorded and clock - entry.modified >= KEEP]
    for key in unread:
        resources.store.delete(key)
    return len(unread)
