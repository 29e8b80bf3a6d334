"""What every landing does, wherever its rows come from: one batch per country, stored, then recorded in one transaction."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from perennial.claims import is_path_segment
from perennial.errors import RegistryError, SourceMismatch
from perennial.resources import Resources
from perennial.shell.database import Connection, fetch_one, run, transaction
from perennial.shell.lake import BatchWriter, LandedFile
from perennial.spec import SKIP, UNKNOWN_COUNTRY, Source

logger = logging.getLogger(__name__)

SHOWN = 20


class Batches:
    """The batches of a landing while they are written, each to a local file."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.writers: dict[str, BatchWriter] = {}
        self.left_out: Counter[Any] = Counter()

    def write(self, table: pa.Table) -> None:
        """Append rows of any countries, without those that the spec leaves out."""
        self.left_out.update(left_out(table, self.source))
        for country, part in by_country(table, self.source):
            self.write_country(country, part)

    def write_country(self, country: str, table: pa.Table) -> None:
        """Append rows of one country. Raises SourceMismatch for a code that names no single folder."""
        if not is_path_segment(country):
            raise SourceMismatch(
                f"Source {self.source.name} maps a country to {country!r}, which cannot name a folder. "
                f"Use letters, digits, _ and - at {self.source.where}."
            )
        if country not in self.writers:
            self.writers[country] = BatchWriter(self.folder / f"{country}.parquet", self.source)
        self.writers[country].write(table)

    def close(self) -> dict[str, LandedFile]:
        """Finish every batch; by country. What was left out is in the log."""
        if self.left_out:
            shown = ", ".join(f"{value!r} ({rows:,})" for value, rows in self.left_out.most_common(SHOWN))
            more = ", …" if len(self.left_out) > SHOWN else ""
            rows = f"{self.left_out.total():,}"
            logger.info("%s: left out %s rows of other countries: %s%s", self.source.name, rows, shown, more)
        return {country: writer.close() for country, writer in self.writers.items()}


@dataclass(frozen=True, kw_only=True)
class Landing:
    """The changes of a source from ``lower`` to ``upper``: its batches by country, and the rows of its files, if any.

    ``rechecked``: the part of an interval landed before that was looked through once more. Its batches are late ones, and the
    cursor stays.
    """

    lower: datetime
    upper: datetime
    clock: datetime
    batches: dict[str, LandedFile]
    files: tuple[dict[str, Any], ...] = ()
    rechecked: tuple[datetime, datetime] | None = None


def by_country(table: pa.Table, source: Source) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each country, those of no known one under UNKNOWN_COUNTRY unless the spec leaves them out."""
    values = table[source.country]
    for value in pc.unique(values).to_pylist():
        country = country_of(source, value)
        if country is not None:
            chosen = pc.is_null(values) if value is None else pc.equal(values, value)
            yield country, table.filter(chosen)


def country_of(source: Source, value: Any) -> str | None:
    """The code that the spec has for a value of the country column; None where it leaves the row out."""
    is_left_out = source.other_countries == SKIP and value is not None
    return source.countries.get(value, None if is_left_out else UNKNOWN_COUNTRY)


def left_out(table: pa.Table, source: Source) -> dict[Any, int]:
    """Values of the country column whose rows the spec leaves out, and how many rows each."""
    if source.other_countries != SKIP:
        return {}
    counts = pc.value_counts(table[source.country]).to_pylist()
    return {each["values"]: each["counts"] for each in counts if country_of(source, each["values"]) is None}


def wanted(table: pa.Table, source: Source) -> pa.Table:
    """The rows that a landing takes."""
    strangers = left_out(table, source)
    if not strangers:
        return table
    values = table[source.country]
    return table.filter(pc.invert(pc.is_in(values, value_set=pa.array([*strangers], values.type))))


def cursor_of(database: Connection, source: Source, clock: datetime) -> datetime:
    """Up to which ``changed_at`` the source has landed."""
    run(database, "start_cursor", source=source.name, clock=clock)
    return fetch_one(database, "cursor_of", source=source.name).position  # type: ignore[no-any-return]


def record(resources: Resources, database: Connection, source: Source, landing: Landing) -> dict[str, int]:
    """Store the batches' objects, then record batches, files and the cursor's move together; returns rows by country.

    Raises RegistryError when the cursor has moved meanwhile.
    """
    keys = {country: f"lake/{source.name}/{country}/{file.sha256}.parquet" for country, file in landing.batches.items()}
    for country, file in landing.batches.items():
        resources.store.put_file(keys[country], file.path)
    bounds = {"lower": landing.lower, "upper": landing.upper}
    with transaction(database):
        if _advance(database, source, landing) != 1:
            raise RegistryError(f"Another landing of {source.name} was faster. Nothing of this one was recorded.")
        for country, file in landing.batches.items():
            run(
                database, "land_batch", source=source.name, country=country, rows=file.rows, event_min=file.event_min,
                event_max=file.event_max, object_key=keys[country], sha256=file.sha256, size=file.size,
                is_late=landing.rechecked is not None, **bounds,
            )  # fmt: skip
        for facts in landing.files:
            run(database, "pick_up_file", source=source.name, **facts)
    return {country: file.rows for country, file in landing.batches.items()}


def _advance(database: Connection, source: Source, landing: Landing) -> int:
    """Move the cursor, or how far the source was looked through once more; returns 0 where another landing has."""
    if landing.rechecked:
        start, end = landing.rechecked
        return run(database, "advance_recheck", source=source.name, start=start, end=end)
    bounds = {"lower": landing.lower, "upper": landing.upper}
    return run(database, "advance_cursor", source=source.name, clock=landing.clock, **bounds)
