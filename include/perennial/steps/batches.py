"""The batches of a landing while they are written: which rows are of which country, and which are left out."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from perennial.claims import is_path_segment
from perennial.core.trials import REJECTED_BY, rejected_schema, with_reasons
from perennial.errors import SourceMismatch
from perennial.shell.lake import BatchWriter, LandedFile
from perennial.shell.values import Reading
from perennial.spec import SKIP, UNKNOWN_COUNTRY, FileSource, Source

logger = logging.getLogger(__name__)

SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Landed:
    """A country's batch that is written and not stored yet.

    ``flaws``: how many of its unreadable rows have which.
    """

    file: LandedFile
    unreadable: LandedFile | None = None
    flaws: Mapping[str, int] = field(default_factory=dict)


class Batches:
    """The batches of a landing while they are written, each to a local file, and one for its unreadable rows, if any."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source, self.folder = source, folder
        self.writers: dict[str, BatchWriter] = {}
        self.left_out: Counter[Any] = Counter()
        self.elsewhere: BatchWriter | None = None
        self.unreadable: dict[str, BatchWriter] = {}
        self.flaws: dict[str, Counter[str]] = {}

    def write(self, table: pa.Table) -> None:
        """Append rows of any countries, without those that the spec leaves out."""
        self.leave_out(table)
        for country, part in by_country(table, self.source):
            self.write_country(country, part)

    def add(self, reading: Reading) -> None:
        """Append rows of any countries, those that can be read and those that cannot."""
        self.write(reading.rows)
        if reading.unreadable.num_rows:
            kept = with_reasons(reading.unreadable, reading.kinds, reading.reasons)
            self.write_unreadable(kept)

    def write_country(self, country: str, table: pa.Table) -> None:
        """Append rows of one country. Raises SourceMismatch for a code that names no single folder."""
        self._writer(country).write(table)

    def write_unreadable(self, table: pa.Table) -> None:
        """Append rows of any countries that cannot be read, as texts with their reasons."""
        schema = unreadable_schema(self.source)
        table = table.select(schema.names).cast(schema)
        self.left_out.update(left_out(table, self.source))

        for country, part in by_country(table, self.source):
            self._writer(country)
            if country not in self.unreadable:
                path = self.folder / f"{country}.unreadable.parquet"
                self.unreadable[country] = BatchWriter(path, self.source, schema)
                self.flaws[country] = Counter()
            self.unreadable[country].write(part)
            self.flaws[country].update(pc.list_flatten(part[REJECTED_BY]).to_pylist())

    def close(self) -> dict[str, Landed]:
        """Finish every batch; by country. What was left out is in the log."""
        self._log_left_out()
        return {
            country: Landed(
                file=writer.close(),
                unreadable=self.unreadable[country].close() if country in self.unreadable else None,
                flaws=dict(self.flaws.get(country, {})),
            )
            for country, writer in self.writers.items()
        }

    def leave_out(self, table: pa.Table) -> None:
        """Count the rows that the spec leaves out, and keep them: their keys may have left a country."""
        strangers = left_out(table, self.source)
        self.left_out.update(strangers)
        if strangers and not isinstance(self.source, FileSource):
            if self.elsewhere is None:
                self.elsewhere = BatchWriter(self.folder / "left out.parquet", self.source)
            names = table[self.source.country]
            chosen = pc.is_in(names, value_set=pa.array([*strangers], names.type))
            self.elsewhere.write(table.filter(chosen))

    def _writer(self, country: str) -> BatchWriter:
        if not is_path_segment(country):
            raise SourceMismatch(
                f"Source {self.source.name} maps a country to {country!r}, which cannot name a folder. "
                f"Use letters, digits, _ and - at {self.source.where}."
            )
        if country not in self.writers:
            self.writers[country] = BatchWriter(self.folder / f"{country}.parquet", self.source)
        return self.writers[country]

    def _log_left_out(self) -> None:
        if not self.left_out:
            return

        named = self.left_out.most_common(SHOWN)
        shown = ", ".join(f"{value!r} ({rows:,})" for value, rows in named)
        more = ", …" if len(self.left_out) > SHOWN else ""
        rows = f"{self.left_out.total():,}"
        text = "%s: left out %s rows of other countries: %s%s"
        logger.info(text, self.source.name, rows, shown, more)


def unreadable_schema(source: Source) -> pa.Schema:
    """The columns of rows that cannot be read: all of the source's as texts, and the reasons."""
    return rejected_schema(pa.schema([(column.name, pa.string()) for column in source.columns]))


def by_country(table: pa.Table, source: Source) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each country, those of no known one under UNKNOWN_COUNTRY unless the spec leaves them out."""
    values = table[source.country]
    for value in pc.unique(values).to_pylist():
        country = country_of(source, value)
        if country is not None:
            chosen = pc.is_null(values) if value is None else pc.equal(values, value)
            yield country, table.filter(chosen)


def country_of(source: Source, value: Any) -> str | None:
    """The code that the spec has for a value of the country column; None where it leaves the row out.

    Of a row that cannot be read the value is a text, also where the column holds numbers.
    """
    is_left_out = source.other_countries == SKIP and value is not None
    codes = source.countries
    if isinstance(value, str) and value not in codes:
        codes = {str(name): code for name, code in codes.items()}
    return codes.get(value, None if is_left_out else UNKNOWN_COUNTRY)


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
