"""The shipped recipes that fill gaps, or tell a no by what is absent, make nothing up after a country's last row."""

import pandas as pd
import pytest
from rides import a_country, day, rows_of
from shop import START, a_shop

from models.ride_hailing.rider_demand import rider_demand
from models.shop.returned import returned
from models.shop.weekly_units import weekly_units
from perennial.core.examples import matured_examples

SHOP, RIDES = a_shop(), rows_of(a_country(), day(0), day(60))
CASES = {
    "weekly_units": (weekly_units, SHOP, "invoice_date", START + pd.Timedelta(days=158, hours=11)),
    "returned": (returned, SHOP, "invoice_date", START + pd.Timedelta(days=158, hours=11)),
    "rider_demand": (rider_demand, RIDES, "requested_at", pd.Timestamp(day(40.4))),
}

pytestmark = pytest.mark.parametrize("name", CASES)


def learned(model, rows, event_time):
    """What is learned of a country whose rows end there."""
    return matured_examples(model.examples, rows, rows[event_time].max(), model.name)


def landed(name):
    """The model, a country's rows up to a moment, all of its rows, and the column of their time."""
    model, rows, event_time, until = CASES[name]
    return model, rows[rows[event_time] <= until], rows, event_time


def test_a_late_country_learns_of_no_period_that_ends_after_its_last_row(name):
    model, late, _, event_time = landed(name)
    made = learned(model, late, event_time)
    assert len(made) > 100
    assert made["label_time"].max() <= late[event_time].max()


def test_what_a_late_country_learns_is_what_it_learns_of_that_time_once_it_has_landed(name):
    model, late, rows, event_time = landed(name)
    before, after = (learned(model, each, event_time)["target"] for each in (late, rows))
    pd.testing.assert_series_equal(after.loc[before.index], before)
