"""The recipe of the shop's order value model: whole orders, and a customer's past without its present."""

import numpy as np
import pandas as pd
import pytest
from shop import START, lines

from models.shop._lines import past
from models.shop.order_value import examples, features
from perennial import Days

AS_OF = pd.Timestamp("2010-06-01", tz="UTC")
SECOND = {"invoice": "489435", "stock_code": "22423", "quantity": 1, "price": 12.75}


def at(**since_start):
    return {"invoice_date": START + pd.Timedelta(**since_start)}


def test_an_order_is_the_sum_of_its_lines_under_its_number():
    made = examples(lines({}, {"stock_code": "22423", "quantity": 2, "price": 5.0, **at(days=0)}), AS_OF)
    assert made["target"].to_dict() == {"489434": pytest.approx(np.log(6 * 2.55 + 10))}
    assert made["event_time"].item() == made["label_time"].item() == START


def test_lines_written_twice_count_once():
    once, twice = (examples(lines({}, *[at(days=0)] * number), AS_OF) for number in (0, 1))
    pd.testing.assert_frame_equal(once, twice)


def test_what_is_added_in_a_later_minute_is_not_the_order_that_was_opened():
    made = examples(lines({}, {"stock_code": "22423", **at(minutes=1)}), AS_OF)
    assert made["target"].item() == pytest.approx(np.log(6 * 2.55))


def test_cancellations_and_postage_add_nothing():
    made = examples(lines({}, {"invoice": "C489440", "quantity": -6}, {"stock_code": "POST", **at(days=0)}), AS_OF)
    assert list(made.index) == ["489434"]


def test_a_first_order_has_no_past():
    made = features(examples(lines({}), AS_OF)).loc["489434"]
    assert made[["orders", "mean_log_value", "days_since"]].tolist() == [0, 0, 91]


def test_the_past_is_of_the_same_customer_strictly_before():
    rows = lines({}, {**SECOND, **at(days=3)}, {**SECOND, "invoice": "489436", "customer_id": "1.0", **at(days=4)})
    made = features(examples(rows, AS_OF))[["orders", "mean_log_value", "days_since"]]
    assert made.loc["489435"].tolist() == pytest.approx([1, np.log(6 * 2.55), 3], abs=1e-6)
    assert made.loc["489436", "orders"] == 0


def test_the_past_ends_after_ninety_days():
    rows = lines({}, {**SECOND, **at(days=90)}, {**SECOND, "invoice": "489436", **at(days=91)})
    assert features(examples(rows, AS_OF))["orders"].tolist() == [0, 1, 1]


def test_orders_without_customer_have_no_past():
    made = features(examples(lines({"customer_id": None}, {**SECOND, "customer_id": None}), AS_OF))
    assert made["orders"].tolist() == [0, 0]
    assert made["has_customer"].tolist() == [0, 0]


def test_the_past_of_nobody_is_empty():
    nothing = pd.DataFrame({"key": [], "moment": pd.DatetimeIndex([], tz="UTC"), "value": []}).astype({"key": "str"})
    assert past(nothing, nothing, Days(1)).empty
