"""The recipe of the shop's price model: which lines it learns from, and what it says of them."""

import numpy as np
import pandas as pd
import pytest
from shop import NO_SALES, START, a_shop, lines

from models.shop.price import estimator, examples, features

AS_OF = pd.Timestamp("2010-03-01", tz="UTC")


@pytest.mark.parametrize("change", NO_SALES)
def test_a_line_that_is_no_sale_of_a_product_is_no_example(change):
    assert list(examples(lines({}, change, {}), AS_OF).index) == [1, 3]


def test_an_example_keeps_its_line_id_and_predicts_the_log_price_at_the_invoice():
    made = examples(lines({}), AS_OF).loc[1]
    assert made["target"] == pytest.approx(np.log(2.55))
    assert made["event_time"] == made["label_time"] == START


def test_exact_duplicates_stay():
    assert len(examples(lines({}, {}, {}), AS_OF)) == 3


def test_features_say_what_was_bought_and_how():
    made = features(examples(lines({}), AS_OF)).loc[1]
    assert made[["code", "code_kind", "family", "last_word"]].tolist() == ["85123A", "85123A|known", "851", "LIGHT"]
    assert made["log_quantity"] == pytest.approx(np.log(6))
    assert made["has_customer"] == 1.0


def test_a_line_without_customer_and_description_has_features_too():
    made = features(examples(lines({"customer_id": None, "description": None}), AS_OF)).loc[1]
    assert made[["code_kind", "last_word", "has_customer"]].tolist() == ["85123A|unknown", "-", 0.0]


def test_an_unseen_code_is_predicted_between_the_prices_seen():
    known = examples(a_shop(), AS_OF)
    fitted = estimator().fit(features(known), known["target"])
    unseen = examples(lines({"stock_code": "99999", "description": "NEW THING"}), AS_OF)
    (predicted,) = fitted.predict(features(unseen))
    assert known["target"].min() <= predicted <= known["target"].max()
