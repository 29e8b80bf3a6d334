"""The recipe of the shop's quantity model."""

import numpy as np
import pandas as pd
import pytest
from shop import NO_SALES, START, lines

from models.shop.quantity import examples, features

AS_OF = pd.Timestamp("2010-03-01", tz="UTC")


@pytest.mark.parametrize("change", NO_SALES)
def test_a_line_that_is_no_sale_of_a_product_is_no_example(change):
    assert list(examples(lines({}, change, {}), AS_OF).index) == [1, 3]


def test_the_target_is_the_log_quantity_known_with_the_line():
    made = examples(lines({"quantity": 12}), AS_OF).loc[1]
    assert made["target"] == pytest.approx(np.log(12))
    assert made["event_time"] == made["label_time"] == START


def test_features_say_what_was_bought_at_which_price_by_whom():
    made = features(examples(lines({"invoice_date": START + pd.Timedelta(hours=9)}), AS_OF)).loc[1]
    assert made[["code_kind", "tag", "family", "customer"]].tolist() == ["85123A|known", "85123A|255", "851", "13085.0"]
    assert made[["log_price", "has_customer", "hour"]].tolist() == pytest.approx([np.log(2.55), 1.0, 9.0])


def test_a_line_without_customer_has_features_too():
    made = features(examples(lines({"customer_id": None}), AS_OF)).loc[1]
    assert made[["code_kind", "customer", "has_customer"]].tolist() == ["85123A|unknown", "-", 0.0]
