"""The airports' replay without a database: which flight is dropped in which file."""

import gzip
import io
import zipfile
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from perennial.shell import file_source
from perennial.shell.store import open_store
from sources.flights import flights as source
from worlds import flights

NOON = datetime(2013, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def url(tmp_path):
    """The URL of a store without any file."""
    made = (tmp_path / "landing").as_uri()
    flights.prepare(made)
    return made


@pytest.fixture
def cache(tmp_path):
    """A cache that holds six flights, one a day from 31 January at noon."""
    moments = pd.Series([NOON + number * DAY for number in range(6)]).astype("datetime64[us, UTC]")
    made = pd.DataFrame({"flight_id": range(1, 7), "scheduled_at": moments, "carrier": "UA", "flight": 1545, "origin": "EWR"})
    made = made.assign(dest="IAH", distance=1400, dep_delay=2.0, arr_delay=None, air_time=227.0)
    made.to_parquet(tmp_path / f"flights-{flights.DATA.sha256[:12]}.parquet")
    return tmp_path


def dropped(url):
    """Flights by file name."""
    store = open_store(url)
    files = {key: pd.read_csv(io.BytesIO(gzip.decompress(store.get(key)))) for key in store.keys("")}
    return {key.removeprefix("flights/"): rows["flight_id"].tolist() for key, rows in files.items()}


def test_a_step_is_dropped_in_a_file_for_each_month(url, cache):
    assert flights.advance(url, NOON + 2 * DAY, cache) == 2
    assert dropped(url) == {"until-2013-02-01T0000Z.csv.gz": [1], "until-2013-02-02T1200Z.csv.gz": [2]}


def test_repeating_a_step_drops_nothing(url, cache):
    flights.advance(url, NOON + 2 * DAY, cache)
    before = open_store(url).look("")[0]
    assert [flights.advance(url, NOON + days * DAY, cache) for days in (2, 1)] == [0, 0]
    assert open_store(url).look("")[0] == before


@pytest.mark.parametrize("cuts", [[10], [3, 10], [1, 2, 3, 4, 5, 6, 10]])
def test_however_the_time_is_cut_every_flight_is_dropped_once(url, cache, cuts):
    assert sum(flights.advance(url, NOON + cut * DAY, cache) for cut in cuts) == 6
    assert sorted(number for numbers in dropped(url).values() for number in numbers) == [1, 2, 3, 4, 5, 6]


def test_the_position_is_read_off_the_files(url, cache):
    assert flights.position(url) is None
    flights.advance(url, NOON + 2 * DAY, cache)
    assert flights.position(url) == NOON + 2 * DAY


def test_a_drop_that_was_cut_short_goes_on_where_it_was(url, cache):
    flights.advance(url, NOON + 2 * DAY, cache)
    (cache / "landing/flights/until-2013-02-02T1200Z.csv.gz").unlink()
    assert flights.advance(url, NOON + 2 * DAY, cache) == 1


def test_the_same_flights_give_the_same_bytes(cache):
    rows = flights.read_flights(cache)
    assert flights.as_file(rows) == flights.as_file(rows)


def test_a_dropped_file_is_what_the_source_declares(url, cache, tmp_path):
    assert source.faults() == []
    flights.advance(url, NOON + 10 * DAY, cache)
    entries, _ = file_source.look(open_store(url), source)
    assert len(entries) == 2
    open_store(url).get_file(entries[0].key, tmp_path / "file")
    (reading,) = file_source.tables(tmp_path / "file", entries[0].key, source)
    table = reading.rows
    assert table.column_names == flights.COLUMNS
    assert table.to_pylist()[0] == {
        "flight_id": 1, "scheduled_at": NOON, "carrier": "UA", "flight": 1545, "origin": "EWR", "dest": "IAH",
        "distance": 1400.0, "dep_delay": 2.0, "arr_delay": None, "air_time": 227.0,
    }  # fmt: skip


def test_the_steps_are_a_quarter_of_history_and_then_nine_months():
    moments = list(flights.steps())
    assert (len(moments), moments[0], moments[-1]) == (10, flights.FIRST, flights.LAST)
    assert next(flights.steps(NOON, "day")) == NOON


def test_a_flight_is_scheduled_in_utc_and_numbered_by_its_place():
    header = "carrier,flight,origin,dest,distance,dep_delay,arr_delay,air_time,minute,time_hour\n"
    rows = [f"UA,{number},EWR,IAH,1400,2,,227,{minute},2013-01-01T10:00:00Z\n" for number, minute in ((7, 59), (8, 15))]
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("flights.csv", header + "".join(rows))
    made = flights._parse(zipped.getvalue())
    assert made[["flight_id", "flight"]].to_numpy().tolist() == [[2, 8], [1, 7]]
    assert made["scheduled_at"].tolist() == [pd.Timestamp(f"2013-01-01T10:{minute}Z") for minute in (15, 59)]
