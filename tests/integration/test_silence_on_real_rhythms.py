"""A source's silence, held against the rhythms of real tables: what would its owner have been notified of?"""

from datetime import datetime, timedelta

import pandas as pd
import pytest

from perennial.core.rhythm import SHORTEST, Rhythm
from worlds import flights, retail

STEP = timedelta(minutes=30)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def shop(cache):
    return retail.read_lines(cache)["invoice_date"]


def landings(moments, every) -> list[datetime]:
    """When an ingest that runs so often lands rows of these moments."""
    ends = moments.dt.floor(every) + pd.Timedelta(every)
    return sorted(ends.drop_duplicates().dt.to_pydatetime())


def alarms(moments):
    """The days on which its owner is notified of a silence, and after how long."""
    found, pauses = [], []
    for before, last, following in zip([None, *moments], moments, moments[1:], strict=False):
        if before and last - before >= SHORTEST:
            pauses.append((before, last))
        rhythm = Rhythm(first=moments[0], last=last, pauses=pauses[-450:])
        now = last + SHORTEST
        while now < following and not rhythm.is_silent(now):
            now += STEP
        if now < following:
            found.append((f"{last:%Y-%m-%d}", now - last))
    return found


HOLIDAYS = ["2009-12-23", "2010-04-01", "2010-08-29", "2010-12-23", "2011-04-21", "2011-08-28"]


@pytest.mark.parametrize("every", ["15min", "1h"])
def test_a_shop_that_is_closed_at_night_and_on_saturdays_is_missed_on_holidays_alone(shop, every):
    """Two Christmases, two Easters, two summer bank holidays in two years of 200 weekends and nights each."""
    assert [day for day, _ in alarms(landings(shop, every))] == HOLIDAYS


def test_a_shop_that_is_ingested_once_a_day_is_missed_on_the_same_ones(shop):
    """Landed are the rows of a day with its end."""
    ends = [f"{pd.Timestamp(day) + pd.Timedelta('1D'):%Y-%m-%d}" for day in HOLIDAYS]
    assert [day for day, _ in alarms(landings(shop, "1D"))] == ends


def test_a_shop_that_is_ingested_once_a_week_is_missed_at_its_first_christmas(shop):
    assert [day for day, _ in alarms(landings(shop, "7D"))] == ["2009-12-24"]


@pytest.mark.parametrize("every", ["1h", "1D", "7D"])
def test_airports_that_never_close_are_never_missed(cache, every):
    assert alarms(landings(flights.read_flights(cache)["scheduled_at"], every)) == []


@pytest.mark.parametrize("every", ["MS", "QS", "B"])
def test_files_of_each_month_quarter_or_working_day_are_awaited(every):
    """The first quarter of a source cannot be known to be one."""
    days = list(pd.date_range("2012-04-02", "2014-01-01", freq=every, tz="UTC").to_pydatetime())
    assert len(alarms(days)) == (every == "QS")


@pytest.mark.parametrize(("ended", "hours"), [("2011-05-17 10:00", 5), ("2011-06-08 15:00", 24), ("2011-09-09 18:00", 66)])
def test_an_outage_is_noticed_the_same_day_or_after_the_night_or_weekend(shop, ended, hours):
    """Of a Tuesday morning, a Wednesday afternoon, a Friday evening."""
    before = [moment for moment in landings(shop, "15min") if moment <= pd.Timestamp(ended, tz="UTC")]
    *_, (_, length) = alarms([*before, before[-1] + timedelta(days=30)])
    assert length <= timedelta(hours=hours)
