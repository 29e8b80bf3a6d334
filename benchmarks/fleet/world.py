"""The benchmark's world: readings whose ten targets are known functions of fifteen columns, by seed.

At the end of the history the world moves for every target. For half of them it stays moved: whoever learns from the fresh rows
knows better than the champion. For the other half it was a disturbance that ends before the comparison span: whoever has
learned from it knows worse. So half of the challengers win, by the judge's own verdict.
"""

import io
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg2
import pyarrow as pa
from pyarrow import csv

FLEET, SOURCE = "bench", "readings"
FEATURES = tuple(f"x{number}" for number in range(15))
TARGETS = tuple(f"target_{number}" for number in range(10))
MOVED = TARGETS[:5]
COUNTRIES = (
    "AT",
    "AU",
    "BE",
    "CA",
    "CH",
    "CZ",
    "DE",
    "DK",
    "ES",
    "FI",
    "FR",
    "GB",
    "GR",
    "IE",
    "IT",
    "JP",
    "NL",
    "NO",
    "PL",
    "PT",
)
START = datetime(2025, 1, 1, tzinfo=UTC)
ROWS_PER_DAY = 400
WINDOW_DAYS, HOLDOUT_DAYS, SPAN_DAYS = 125, 12, 10
HISTORY_DAYS, FRESH_DAYS = 97, 40
DAYS = HISTORY_DAYS + FRESH_DAYS  # what a training reads: the window and the longest span
CALM = range(HISTORY_DAYS, DAYS - SPAN_DAYS)  # the days of the disturbance
SHIFT, NOISE = 2.0, 1.0

COLUMNS = ("id", "country", "read_at", *FEATURES, *TARGETS)
TABLE = f"""
CREATE UNLOGGED TABLE IF NOT EXISTS readings (
    id bigint, changed_at timestamptz NOT NULL DEFAULT now(), country text, read_at timestamptz NOT NULL,
    {", ".join(f"{name} double precision" for name in (*FEATURES, *TARGETS))}, PRIMARY KEY (id, changed_at));
CREATE INDEX IF NOT EXISTS readings_changed_at ON readings (changed_at);
"""


def readings(country: str, day: int) -> pa.Table:
    """The rows of one day: 15 standard normal columns, and each target a function of five of them, with noise."""
    place = COUNTRIES.index(country)
    random = np.random.default_rng((place, day))
    x = random.standard_normal((ROWS_PER_DAY, len(FEATURES)))
    seconds = np.arange(ROWS_PER_DAY) * (86_400 // ROWS_PER_DAY)
    moments = np.datetime64((START + timedelta(days=day)).replace(tzinfo=None), "us") + seconds.astype("timedelta64[s]")
    columns = {
        "id": place * 10**9 + day * ROWS_PER_DAY + np.arange(ROWS_PER_DAY),
        "country": [country] * ROWS_PER_DAY,
        "read_at": pa.array(moments, pa.timestamp("us", tz="UTC")),
        **{name: x[:, number].round(5) for number, name in enumerate(FEATURES)},
        **{name: _target(number, place, day, x, random).round(5) for number, name in enumerate(TARGETS)},
    }
    return pa.table(columns)


def _target(number: int, place: int, day: int, x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    own = [(number + step) % len(FEATURES) for step in range(5)]
    weights = np.linspace(1.0, 2.0, len(own)) * (1 + place / 40)
    value = x[:, own] @ weights + np.sin(2 * x[:, own[0]]) + x[:, own[1]] * x[:, own[2]]
    moved = day >= HISTORY_DAYS if TARGETS[number] in MOVED else day in CALM
    shift = SHIFT * x[:, (number + 7) % len(FEATURES)] if moved else 0.0
    return value + shift + NOISE * random.standard_normal(len(x))


def prepare(dsn: str) -> None:
    """Create the table where it is missing."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(TABLE)


def write(dsn: str, countries: Iterable[str], days: Iterable[int]) -> None:
    """Write some days of some countries in one transaction."""
    chosen = list(days)
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        for country in countries:
            text = io.BytesIO()
            csv.write_csv(pa.concat_tables(readings(country, day) for day in chosen), text)
            text.seek(0)
            cursor.copy_expert(f"COPY readings ({', '.join(COLUMNS)}) FROM STDIN WITH (FORMAT csv, HEADER)", text)


def forget(dsn: str, day: int) -> None:
    """Remove what was written of this day and later ones."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM readings WHERE read_at >= %s", (START + timedelta(days=day),))
