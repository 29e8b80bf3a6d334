"""The recipes of the airports' models: which flights count, and when their end is known."""

import numpy as np
import pandas as pd
import pytest
from airports import START, some_flights

from models.flights import flights as fleet
from models.flights.air_time import air_time
from models.flights.arrival_late import arrival_late
from perennial.core.examples import matured_examples
from sources.flights import flights as source

AS_OF = START + pd.Timedelta(days=1)
NEVER_ARRIVED = ({"dep_delay": np.nan, "arr_delay": np.nan, "air_time": np.nan}, {"arr_delay": np.nan, "air_time": np.nan})


@pytest.mark.parametrize("model", [air_time, arrival_late], ids=lambda model: model.name)
@pytest.mark.parametrize("change", NEVER_ARRIVED, ids=["cancelled", "diverted"])
def test_a_flight_that_never_arrived_is_no_example_and_not_on_time(model, change):
    assert list(model.examples(some_flights({}, change, {}), AS_OF).index) == [1, 3]


@pytest.mark.parametrize("model", [air_time, arrival_late], ids=lambda model: model.name)
def test_the_end_of_a_flight_is_known_when_it_is_down(model):
    rows = some_flights({"dep_delay": 30.0, "air_time": 90.0})
    for hours, known in ((1.9, 0), (2.0, 1)):
        assert len(matured_examples(model.examples, rows, START + pd.Timedelta(hours=hours), model.name)) == known


@pytest.mark.parametrize(("delay", "late"), [(-5.0, 0.0), (15.0, 0.0), (16.0, 1.0)])
def test_late_is_more_than_a_quarter_of_an_hour(delay, late):
    assert arrival_late.examples(some_flights({"arr_delay": delay}), AS_OF)["target"].tolist() == [late]


def test_hours_and_weekdays_are_those_of_new_york():
    rows = some_flights({}, {"scheduled_at": pd.Timestamp("2013-07-01T04:30Z")})
    made = air_time.features(air_time.examples(rows, AS_OF))
    assert made[["hour", "weekday"]].to_numpy().tolist() == [[19.0, 0.0], [0.0, 0.0]]


def test_the_fleets_countries_are_its_airports():
    assert fleet.faults() == []
    assert set(fleet.countries) == set(source.countries.values())
