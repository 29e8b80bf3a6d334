"""The same changes as files: one Parquet file per country and day, as a partner would drop them."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq

from worlds.ride_hailing.countries import COUNTRIES, START, Country
from worlds.ride_hailing.table import as_table
from worlds.ride_hailing.trips import DAY, changes, day_of


def write_files(folder: Path, since: datetime, until: datetime, countries: Iterable[Country] = COUNTRIES) -> list[Path]:
    """Write ``<country>/<date>.parquet`` for each full day of a span; a file that is there stays as it is.

    Returns the new files. A file holds the trips of which something became known that day, ``changed_at`` is the day's end.
    """
    days = [START + day * DAY for day in range(day_of(since), day_of(until))]
    return [file for country in countries for day in days if (file := _write(folder, country, day)) is not None]


def _write(folder: Path, country: Country, day: datetime) -> Path | None:
    file = folder / country.code / f"{day:%Y-%m-%d}.parquet"
    if file.exists():
        return None
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    pq.write_table(as_table(changes(country, day, day + DAY), changed_at=day + DAY), partial, compression="zstd")
    return partial.replace(file)
