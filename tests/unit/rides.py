"""Simulated trips for tests, as the lake holds them and the steps hand them to a model."""

from dataclasses import replace
from datetime import datetime

import pandas as pd

from perennial.core.snapshots import latest_revisions
from perennial.shell.frames import typed_frame
from sources.trips import trips
from worlds.ride_hailing.countries import COUNTRIES, START, Country
from worlds.ride_hailing.table import as_table
from worlds.ride_hailing.trips import DAY, changes

BY_CODE = {country.code: country for country in COUNTRIES}


def a_country(code: str = "NL", **truth: object) -> Country:
    """One of the twenty, with something else true of it, and no incident unless one is given."""
    return replace(BY_CODE[code], **{"incidents": (), **truth})


def day(number: float) -> datetime:
    """The start of a day of the world."""
    return START + number * DAY


def rows_of(country: Country, since: datetime, until: datetime) -> pd.DataFrame:
    """Latest revisions of a country's trips as a model sees them, indexed by trip."""
    written = as_table(changes(country, since, until), changed_at=until)
    return latest_revisions(typed_frame(written, {column.name: column for column in trips.columns}), trips)
