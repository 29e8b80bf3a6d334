"""What every landing does, wherever its rows come from: one batch per country, stored, then recorded in one transaction.

Rows that cannot be read are part of their country's batch, in an object of their own.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from perennial.core.trials import REJECTED_BY, rejected_schema, with_reasons
from perennial.errors import RegistryError
from perennial.resources import Resources
from perennial.shell.database import Connection, Json, fetch_one, run, transaction
from perennial.shell.lake import BatchWriter, LandedFile
from perennial.shell.values import Reading
from perennial.spec import UNKNOWN_COUNTRY, Source

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Landed:
    """A country's batch that is written and not stored yet.

    ``flaws``: how many of its unreadable rows have which.
    """

    file: LandedFile
    unreadable: LandedFile | None
    flaws: Mapping[str, int]


class Batches:
    """The batches of a landing while they are written, each to a local file, and one for its unreadable rows, if any."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.writers: dict[str, BatchWriter] = {}
        self.unreadable: dict[str, BatchWriter] = {}
        self.flaws: dict[str, Counter[str]] = {}

    def write(self, table: pa.Table) -> None:
        """Append rows of any countries."""
        for country, part in by_country(table, self.source):
            self.write_country(country, part)

    def add(self, reading: Reading) -> None:
        """Append rows of any countries, those that can be read and those that cannot."""
        self.write(reading.rows)
        if reading.unreadable.num_rows:
            kept = with_reasons(reading.unreadable, reading.kinds, reading.reasons)
            self.write_unreadable(kept)

    def write_country(self, country: str, table: pa.Table) -> None:
        """Append rows of one country."""
        self._writer(country).write(table)

    def write_unreadable(self, table: pa.Table) -> None:
        """Append rows of any countries that cannot be read, as texts with their reasons."""
        schema = unreadable_schema(self.source)
        table = table.select(schema.names).cast(schema)
        for country, part in by_country(table, self.source):
            self._writer(country)
            if country not in self.unreadable:
                path = self.folder / f"{country}.unreadable.parquet"
                self.unreadable[country] = BatchWriter(path, self.source, schema)
                self.flaws[country] = Counter()
            self.unreadable[country].write(part)
            self.flaws[country].update(pc.list_flatten(part[REJECTED_BY]).to_pylist())

    def close(self) -> dict[str, Landed]:
        """Finish every batch; by country."""
        return {
            country: Landed(
                file=writer.close(),
                unreadable=self.unreadable[country].close() if country in self.unreadable else None,
                flaws=dict(self.flaws.get(country, {})),
            )
            for country, writer in self.writers.items()
        }

    def _writer(self, country: str) -> BatchWriter:
        if country not in self.writers:
            self.writers[country] = BatchWriter(self.folder / f"{country}.parquet", self.source)
        return self.writers[country]


def unreadable_schema(source: Source) -> pa.Schema:
    """The columns of rows that cannot be read: all of the source's as texts, and the reasons."""
    return rejected_schema(pa.schema([(column.name, pa.string()) for column in source.columns]))


@dataclass(frozen=True, kw_only=True)
class Landing:
    """The changes of a source from ``lower`` to ``upper``: its batches by country, and the rows of its files, if any."""

    lower: datetime
    upper: datetime
    clock: datetime
    batches: dict[str, Landed]
    files: tuple[dict[str, Any], ...] = ()


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


def stored(resources: Resources, source: Source, country: str, batch: Landed) -> dict[str, Any]:
    """Store a batch's objects; returns what the ledger says of them."""
    file, aside = batch.file, batch.unreadable
    key = f"lake/{source.name}/{country}/{file.sha256}.parquet"
    resources.store.put_file(key, file.path)
    facts: dict[str, Any] = {
        "rows": file.rows, "event_min": file.event_min, "event_max": file.event_max, "object_key": key, "sha256": file.sha256,
        "size": file.size, "unreadable_rows": 0, "unreadable": Json(dict(batch.flaws)), "unreadable_key": None,
        "unreadable_sha256": None, "unreadable_size": None,
    }  # fmt: skip
    if aside is None:
        return facts
    key = f"quarantine/{source.name}/{country}/{aside.sha256}.parquet"
    resources.store.put_file(key, aside.path)
    found = {"rows": aside.rows, "key": key, "sha256": aside.sha256, "size": aside.size}
    return facts | {f"unreadable_{name}": value for name, value in found.items()}


def record(resources: Resources, database: Connection, source: Source, landing: Landing) -> dict[str, int]:
    """Store the batches' objects, then record batches, files and the cursor's move together; returns readable rows by country.

    Raises RegistryError when the cursor has moved meanwhile.
    """
    facts_of = {country: stored(resources, source, country, batch) for country, batch in landing.batches.items()}
    bounds = {"lower": landing.lower, "upper": landing.upper}
    with transaction(database):
        if run(database, "advance_cursor", source=source.name, clock=landing.clock, **bounds) != 1:
            raise RegistryError(f"Another landing of {source.name} was faster. Nothing of this one was recorded.")
        for country, facts in facts_of.items():
            run(database, "land_batch", source=source.name, country=country, **facts, **bounds)
        for facts in landing.files:
            run(database, "pick_up_file", source=source.name, **facts)
    for country, facts in facts_of.items():
        if facts["unreadable_rows"]:
            aside = f"{facts['unreadable_rows']:,}"
            logger.error("%s/%s: %s rows cannot be read and are kept aside in %s", source.name, country, aside,
                         facts["unreadable_key"])  # fmt: skip
    return {country: facts["rows"] for country, facts in facts_of.items()}
