"""The operational table: every step of the world is one transaction of one row per trip that changed."""

import itertools
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from worlds import turns
from worlds.ride_hailing.countries import COUNTRIES, HISTORY, START, Country
from worlds.ride_hailing.trips import changes
from worlds.turns import position

FREQUENCIES = {
    "quarter": timedelta(minutes=15),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}
SCHEMA = pa.schema(
    [
        ("trip_id", pa.int64()),
        ("requested_at", pa.timestamp("us", tz="UTC")),
        ("country", pa.string()),
        ("zone", pa.int64()),
        ("distance_km", pa.float64()),
        ("rider_trips", pa.int64()),
        ("payment", pa.string()),
        ("rain_mm", pa.float64()),
        ("drivers_nearby", pa.int64()),
        ("surge", pa.float64()),
        ("bonus", pa.int64()),
        ("cancelled", pa.int64()),
        ("wait_minutes", pa.float64()),
        ("ride_minutes", pa.float64()),
        ("agreed_price", pa.float64()),
        ("bonus_taken", pa.int64()),
        ("contacted", pa.int64()),
        ("churned", pa.int64()),
        ("fraud", pa.int64()),
        ("settled_at", pa.timestamp("us", tz="UTC")),
    ]
)
TABLES = """
CREATE TABLE IF NOT EXISTS trips (
    trip_id bigint, changed_at timestamptz NOT NULL DEFAULT now(), requested_at timestamptz NOT NULL, country text,
    zone bigint, distance_km double precision, rider_trips bigint, payment text, rain_mm double precision,
    drivers_nearby bigint, surge double precision, bonus bigint, cancelled bigint, wait_minutes double precision,
    ride_minutes double precision, agreed_price double precision, bonus_taken bigint, contacted bigint, churned bigint,
    fraud bigint, settled_at timestamptz, PRIMARY KEY (trip_id, changed_at));
CREATE INDEX IF NOT EXISTS trips_changed_at ON trips (changed_at);
"""
COPY = f"COPY trips ({', '.join(SCHEMA.names)}) FROM STDIN (FORMAT csv)"


def steps(start: datetime | None = None, every: str = "day") -> Iterator[datetime]:
    """The moments up to which the world is written: its history first, then on and on."""
    first = start or START + HISTORY
    return (first + number * FREQUENCIES[every] for number in itertools.count())


def prepare(dsn: str) -> None:
    """Create the world's tables where they are missing."""
    turns.prepare(dsn, TABLES)


def advance(dsn: str, until: datetime, cache: Path, countries: Iterable[Country] = COUNTRIES) -> int:
    """Write what became known up to a moment, in one transaction; returns the number of rows. Repeating it adds nothing.

    The history is written as it stands at its end. Nothing is kept in ``cache``: a trip is made faster than it is read.
    """

    def write(cursor: Any, since: datetime | None) -> int:
        return sum(_copy(cursor, changes(country, since or START, until)) for country in countries)

    return turns.advance(dsn, until, write)


def as_table(trips: pd.DataFrame, changed_at: datetime | None = None) -> pa.Table:
    """Trips as the table's columns, with ``changed_at`` where one is given."""
    table = pa.Table.from_pandas(trips[SCHEMA.names], schema=SCHEMA, preserve_index=False)
    if changed_at is None:
        return table
    return table.append_column("changed_at", pa.array([changed_at] * len(table), pa.timestamp("us", tz="UTC")))


def _copy(cursor: Any, trips: pd.DataFrame) -> int:
    text = pa.BufferOutputStream()
    pa.csv.write_csv(as_table(trips), text, pa.csv.WriteOptions(include_header=False))
    cursor.copy_expert(COPY, pa.BufferReader(text.getvalue()))
    return len(trips)


__all__ = ["FREQUENCIES", "advance", "as_table", "position", "prepare", "steps"]
