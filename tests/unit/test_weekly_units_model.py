"""The recipe of the shop's weekly units model: a row for each week of a product that still sells, zeros included."""

import numpy as np
import pandas as pd
import pytest
from shop import NO_SALES, lines

from models.shop.weekly_units import examples, features, weekly_units
from perennial.core.examples import matured_examples

MONDAY = pd.Timestamp("2010-01-04", tz="UTC")
CODE = "85123A"


def in_week(week, *, days=1.0, **changes):
    """The usual line on the Tuesday of a week; week 0 is the one that starts on 4 January 2010."""
    return {"invoice_date": MONDAY + pd.Timedelta(weeks=week, days=days), **changes}


def before_all(**changes):
    """A line whose week is a part of one, so that all the others are whole."""
    return in_week(-1, stock_code="10000", **changes)


def monday(week):
    return MONDAY + pd.Timedelta(weeks=week)


def asked(*changes, until=10):
    """Examples of the usual product, by week number."""
    made = examples(lines(before_all(), *changes), monday(until)).loc[[CODE]]
    return made.set_index((made["event_time"] - MONDAY) // pd.Timedelta(weeks=1))


def test_the_target_is_the_units_of_the_week_known_at_its_end():
    made = asked(in_week(0), in_week(8, quantity=3), in_week(8, quantity=4, days=6.9)).loc[8]
    assert made["target"] == pytest.approx(np.log1p(7))
    assert (made["event_time"], made["label_time"]) == (monday(8), monday(9))


def test_a_week_without_a_sale_has_target_0():
    assert asked(in_week(1))["target"].to_dict() == {8: 0.0, 9: 0.0}


def test_a_product_is_asked_for_until_eight_weeks_after_its_last_sale():
    assert list(asked(in_week(2), until=20).index) == [8, 9, 10]


def test_a_product_is_not_asked_for_before_it_sells():
    assert list(asked(in_week(9), until=11).index) == [10, 11]


def test_weeks_without_eight_whole_weeks_before_them_are_not_asked_for():
    assert asked(in_week(0), in_week(5)).index.min() == 8


def test_the_running_week_is_asked_for_and_not_learned_from():
    rows = lines(before_all(), in_week(1), in_week(8))
    assert list(examples(rows, monday(8.5)).loc[CODE].index) == [monday(8)]
    assert matured_examples(examples, rows, monday(8.9), "weekly_units").empty
    assert len(matured_examples(examples, rows, monday(9), "weekly_units")) == 1


@pytest.mark.parametrize("change", NO_SALES)
def test_lines_that_are_no_sales_are_no_units(change):
    assert asked(in_week(1), in_week(8, **change)).loc[8, "target"] == 0


def test_lines_written_twice_count_once():
    assert asked(in_week(1), in_week(8), in_week(8)).loc[8, "target"] == pytest.approx(np.log1p(6))


def test_spellings_of_a_code_are_one_product():
    made = asked(in_week(1), in_week(2, stock_code=CODE)).loc[8]
    assert made[["stock_code", "lines_8"]].tolist() == [CODE, 2]


def test_features_say_the_product_and_its_eight_weeks():
    sold = [in_week(week, quantity=units, price=1.0) for week, units in ((2, 8), (6, 12), (7, 4))]
    made = features(asked(*sold, in_week(8, quantity=99))).loc[8]
    assert made[["product", "family"]].tolist() == [CODE, "851"]
    assert made[["units_1", "units_2", "mean_4", "mean_8", "most_8"]].tolist() == [4, 12, 4, 3, 12]
    assert made[["lines_1", "lines_8", "weeks_sold", "weeks_since_first", "weeks_since_last"]].tolist() == [1, 3, 3, 6, 1]
    assert made["log_price"] == pytest.approx(0)


def test_products_are_the_clusters_and_the_snapshot_reaches_back_eight_whole_weeks():
    assert weekly_units.gate.cluster in asked(in_week(1))
    assert weekly_units.lookback >= pd.Timedelta(weeks=8, days=6)
