"""The recipe of the shop's returned model: a label that comes from later rows, and is known 60 days late."""

import numpy as np
import pandas as pd
import pytest
from shop import NO_SALES, START, lines

from models.shop.returned import examples, features, returned
from perennial.core.examples import matured_examples

AS_OF = pd.Timestamp("2010-06-01", tz="UTC")


def at(**since_start):
    return {"invoice_date": START + pd.Timedelta(**since_start)}


def back(**changes):
    """The usual line cancelled five days after it was written."""
    return {"invoice": "C489500", "quantity": -6, **at(days=5), **changes}


def target(*changes):
    return examples(lines({}, *changes), AS_OF).loc[1, "target"]


@pytest.mark.parametrize("change", NO_SALES)
def test_a_line_that_is_no_sale_of_a_product_is_no_example(change):
    assert list(examples(lines({}, change, {}), AS_OF).index) == [1, 3]


def test_a_line_without_customer_is_no_example():
    assert examples(lines({"customer_id": None}), AS_OF).empty


def test_a_line_that_nobody_cancels_is_not_returned():
    assert target() == 0


@pytest.mark.parametrize("cancelled", [{}, {"quantity": -1}, at(minutes=1), at(days=60)], ids=str)
def test_a_cancellation_of_customer_and_product_within_sixty_days_is_a_return(cancelled):
    assert target(back(**cancelled)) == 1


@pytest.mark.parametrize(
    "cancelled",
    [{"customer_id": "1.0"}, {"stock_code": "22423"}, {"invoice": "489500"}, {"quantity": 6}, at(days=0), at(days=-1),
     at(days=60, minutes=1)],
    ids=str,
)  # fmt: skip
def test_another_customer_product_kind_or_time_is_no_return(cancelled):
    assert target(back(**cancelled)) == 0


def test_an_early_yes_is_not_taken_before_a_no_can_be_known():
    rows = lines({}, {"stock_code": "22423", **at(days=0)}, back())
    assert matured_examples(examples, rows, START + pd.Timedelta(days=59), "returned").empty
    assert len(matured_examples(examples, rows, START + pd.Timedelta(days=60), "returned")) == 2


def test_the_snapshot_reaches_back_over_the_delay_and_the_history():
    assert returned.lookback == pd.Timedelta(days=60 + 60)


def test_features_say_what_was_bought_in_which_order():
    made = features(examples(lines({}, {"stock_code": "22423", "quantity": 2, "price": 5.0, **at(days=0)}), AS_OF)).loc[1]
    assert made["code"] == "85123A"
    named = made[["log_quantity", "log_price", "log_invoice_value", "invoice_lines", "lines_before"]]
    assert named.tolist() == pytest.approx([np.log(6), np.log(2.55), np.log(6 * 2.55 + 10), 2, 0])


def test_features_count_what_the_customer_bought_and_brought_back_before():
    rows = lines({}, back(), back(**at(days=7)), {"invoice": "489510", **at(days=7)}, {"invoice": "489511", **at(days=70)})
    before = features(examples(rows, AS_OF))[["lines_before", "returns_before", "days_since_line", "days_since_return"]]
    assert before.loc[4].tolist() == [1, 1, 7, 2]
    assert before.loc[5].tolist() == [0, 0, 61, 61]
