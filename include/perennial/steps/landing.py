"""What every landing does, wherever its rows come from: one batch per country, stored, then recorded in one transaction."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from perennial.errors import RegistryError
from perennial.resources import Resources
from perennial.shell.database import Connection, fetch_one, run, transaction
from perennial.shell.lake import BatchWriter, LandedFile
from perennial.spec import UNKNOWN_COUNTRY, Source
from perennial.steps.places import Places, note_places


class Batches:
    """The batches of a landing while they are written, each to a local file."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.writers: dict[str, BatchWriter] = {}

    def write(self, table: pa.Table) -> None:
        """Append rows of any countries."""
        for country, part in by_country(table, self.source):
            self.write_country(country, part)

    def write_country(self, country: str, table: pa.Table) -> None:
        """Append rows of one country."""
        if country not in self.writers:
            self.writers[country] = BatchWriter(self.folder / f"{country}.parquet", self.source)
        self.writers[country].write(table)

    def close(self) -> dict[str, LandedFile]:
        """Finish every batch; by country."""
        return {country: writer.close() for country, writer in self.writers.items()}


@dataclass(frozen=True, kw_only=True)
class Landing:
    """The changes of a source from ``lower`` to ``upper``: its batches by country, the rows of its files, if any, and the keys
    of its rows."""

    lower: datetime
    upper: datetime
    clock: datetime
    batches: dict[str, LandedFile]
    files: tuple[dict[str, Any], ...] = ()
    places: Places | None = None


def by_country(table: pa.Table, source: Source) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each country, those of no known one under UNKNOWN_COUNTRY."""
    values = table[source.country]
    for value in pc.unique(values).to_pylist():
        chosen = pc.is_null(values) if value is None else pc.equal(values, value)
        yield country_of(source, value), table.filter(chosen)


def country_of(source: Source, value: Any) -> str:
    """The code that the spec has for a value of the country column."""
    return source.countries.get(value, UNKNOWN_COUNTRY)


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
        if run(database, "advance_cursor", source=source.name, clock=landing.clock, **bounds) != 1:
            raise RegistryError(f"Another landing of {source.name} was faster. Nothing of this one was recorded.")
        for country, file in landing.batches.items():
            run(
                database, "land_batch", source=source.name, country=country, rows=file.rows, event_min=file.event_min,
                event_max=file.event_max, object_key=keys[country], sha256=file.sha256, size=file.size, **bounds,
            )  # fmt: skip
        note_places(database, source, landing.places)
        for facts in landing.files:
            run(database, "pick_up_file", source=source.name, **facts)
    return {country: file.rows for country, file in landing.batches.items()}
